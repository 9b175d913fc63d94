/* Numbers as people read them (as harness/records/stats.py), elements, and the state in the address. */
"use strict";
const Basics = (() => {
  const TIMES = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
  const BYTES = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]];
  const RATES = [[1e3, "Gbit/s"], [1, "Mbit/s"], [1e-3, "kbit/s"]];

  /* Three significant digits, and never an exponent. */
  function digits(value) {
    if (value === 0 || !Number.isFinite(value)) return value === 0 ? "0" : "∞";
    const rounded = Number(value.toPrecision(3));
    const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(rounded))));
    return rounded.toFixed(Math.min(decimals, 6));
  }
  function inUnit(value, units) {
    const [scale, name] = units.find(([size]) => Math.abs(value) >= 0.9995 * size) || units[units.length - 1];
    return `${digits(value / scale)} ${name}`;
  }
  const time = (ns) => inUnit(ns, TIMES);
  const bytes = (size) => (size < 1000 ? `${Math.round(size)} B` : inUnit(size, BYTES));
  const rate = (mbit) => (mbit === null ? "unlimited" : inUnit(mbit, RATES));

  /* What a cell such as "35.2 ms [34.1–36.0]" begins with, in the least unit; null where that is no number. */
  const SCALES = Object.fromEntries([...TIMES, ...BYTES].map(([scale, name]) => [name, scale]));
  function sizeOf(text) {
    const found = /^([\d.]+(?:e[-+]\d+)?)(?: ([^\s*]+))?/.exec(text);
    return found && Number(found[1]) * (SCALES[found[2]] ?? 1);
  }

  const SVG = "http://www.w3.org/2000/svg";
  function filled(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes))
      if (name in HANDLERS) element.addEventListener(HANDLERS[name], value);
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    element.append(...children);
    return element;
  }
  const HANDLERS = { onclick: "click", oninput: "input", onchange: "change", onkeydown: "keydown" };
  const html = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);
  const byId = (id) => document.getElementById(id);

  /* A labelled select. choices: [value, text] pairs. */
  function select(label, choices, value, changed) {
    const options = choices.map(([v, text]) => html("option", { value: v, selected: v === value }, text));
    const element = html("select", { onchange: () => changed(element.value) }, ...options);
    return html("label", {}, label, element);
  }

  /* The state of the page: key=value pairs behind #, so that an address shows what its sender saw. */
  const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  let writing = 0;
  function set(key, value) {
    if (value === null || value === "") state.delete(key);
    else state.set(key, value);
    clearTimeout(writing);
    writing = setTimeout(() => history.replaceState(null, "", `#${state}`), 150);
  }
  const get = (key, otherwise = "") => state.get(key) ?? otherwise;
  function number(key, otherwise) {
    const value = Number.parseFloat(get(key));
    return Number.isFinite(value) ? value : otherwise;
  }

  /* Links to parts of the page move there and keep the state. */
  function keepState() {
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[href^='#']");
      const target = link && byId(link.getAttribute("href").slice(1));
      if (!target) return;
      event.preventDefault();
      target.scrollIntoView();
      target.focus({ preventScroll: true });
    });
    addEventListener("hashchange", () => { if (location.hash.includes("=")) location.reload(); });
  }
  return { digits, time, bytes, rate, sizeOf, html, svg, byId, select, set, get, number, keepState };
})();
if (typeof module !== "undefined") module.exports = Basics;
