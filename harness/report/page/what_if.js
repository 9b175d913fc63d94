/* Sliders for the network and the speed of each role; what every traced run would take. */
"use strict";
const WhatIf = (() => {
  const { html, svg, byId, get, set, number, select, time, rate, digits } = Basics;
  const NAMES = { P0: ", the provider", P1: ", the user", P2: ", the dealer or third party" };
  const RTT = { low: 0.1, high: 500, text: (value) => `${value} ms`, title: "round-trip time" };
  const RATE = { low: 1, high: 40000, text: (value) => rate(value).replace(".00", ""), title: "rate" };
  const PLACES = 33, GRID = 17, FRAME_MS = 6;
  const RATIOS = [0.1, 0.5, 1, 2, 10];
  const spaced = (axis, count) => Array.from({ length: count }, (_, i) => axis.low * (axis.high / axis.low) ** (i / (count - 1)));
  let data, roles, choice, job = 0;

  function chosen() {
    const given = get("rate");
    return {
      network: { rttMs: number("rtt", 10), rateMbit: given === "unlimited" ? null : number("rate", 1000) },
      compute: get("compute", "cpu"),
      speeds: Object.fromEntries(roles.map((role) => [role, number(role, 1)])),
    };
  }
  const predicted = (run, network) => ReplayLaw.predicted(run, network, choice.compute, choice.speeds);

  /* What must follow a slider at once: the table and the marks. The curves follow in small parts. */
  function update() {
    choice = chosen();
    byId("whatif-unlimited").checked = choice.network.rateMbit === null;
    table(data.runs.map((run) => predicted(run, choice.network)));
    later();
  }

  const HEADS = ["run", "predicted online", "×", "latency", "bandwidth", "compute"];
  let cells = null;
  function table(found) {
    if (!cells) cells = frameOfTable();
    found.forEach((one, i) => {
      const first = found[data.runs.indexOf(firstOf(data.runs[i]))].online;
      const part = (value) => `${((100 * value) / (one.online || 1)).toFixed(0)} %`;
      const texts = [time(one.online), digits(one.online / first), part(one.latency), part(one.bandwidth), part(one.compute)];
      texts.forEach((text, k) => { if (cells[i][k].nodeValue !== text) cells[i][k].nodeValue = text; });
      rows[i].dataset.ns = one.online;
    });
  }
  let rows = [];
  function frameOfTable() {
    const texts = data.runs.map(() => HEADS.slice(1).map(() => document.createTextNode("")));
    rows = data.runs.map((run, i) => html("tr", { "data-id": run.id },
      html("th", { scope: "row" }, key(run, i), ` ${run.label}${unlike(run) ? " *" : ""}`),
      ...texts[i].map((text) => html("td", { class: "n" }, text))));
    byId("whatif-table").replaceChildren(html("table", {},
      html("caption", {}, `Predicted online time. ${data.runs[0].common || ""}`),
      html("thead", {}, html("tr", {}, ...HEADS.map((head, i) => html("th", { scope: "col", class: i ? "n" : "" }, head)))),
      html("tbody", {}, ...rows)));
    if (data.runs.some(unlike))
      byId("whatif-table").append(html("p", { class: "soft" }, "*: traced on another machine or with other code than the first run of the same work: its compute times are no fair comparison."));
    return texts;
  }
  /* The first run that does the same work, with which a run is compared. */
  const firstOf = (run) => data.runs.find((one) => one.work === run.work);
  const unlike = (run) => run.machine !== firstOf(run).machine || run.code !== firstOf(run).code;

  function key(run, i) {
    return svg("svg", { class: "key", viewBox: "0 0 44 14", "aria-hidden": "true" },
      svg("line", { x1: 0, x2: 44, y1: 7, y2: 7, stroke: LogPlot.ink(run.colour), "stroke-width": 2, "stroke-dasharray": LogPlot.dash(i) }),
      LogPlot.mark(run.marker, 22, 7, run.colour));
  }

  /* Both plots, a few milliseconds of each frame, so that a slider never waits for them. */
  function later() {
    const mine = ++job;
    const work = drawing();
    const go = () => {
      if (mine !== job) return;
      const until = performance.now() + FRAME_MS;
      let done = false;
      while (!done && performance.now() < until) done = work.next().done;
      if (!done) requestAnimationFrame(go);
    };
    requestAnimationFrame(go);
  }

  function* drawing() {
    TimelineView.update(data, choice.network, choice.compute, choice.speeds);
    yield;
    const places = spaced(RTT, PLACES), curves = [];
    for (const run of data.runs) {
      const curve = [];
      for (const rttMs of places) {
        curve.push(predicted(run, { ...choice.network, rttMs }).online);
        yield;
      }
      curves.push(curve);
    }
    lines(places, curves);
    if (data.runs.length < 2) return;
    const [a, b] = pair(), rates = spaced(RATE, GRID), rtts = spaced(RTT, GRID), ratio = [];
    for (const rateMbit of rates) {
      const row = [];
      for (const rttMs of rtts) {
        row.push(predicted(b, { rttMs, rateMbit }).online / predicted(a, { rttMs, rateMbit }).online);
        yield;
      }
      ratio.push(row);
    }
    cross(a, b, rtts, rates, ratio);
  }

  function lines(places, curves) {
    const shown = data.runs.map((run) => run.measured.filter((point) => near(point.rate_mbit)));
    const all = [...curves.flat(), ...shown.flat().map((point) => point.ns)].filter((value) => value > 0);
    const y = { low: Math.min(...all) / 1.3, high: Math.max(...all) * 1.3, text: (ns) => time(ns).replace(/\.0+ /, " ") };
    const { root, sx, sy, high } = LogPlot.frame(`Predicted online time against the round-trip time at ${rate(choice.network.rateMbit)}`, RTT, y);
    data.runs.forEach((run, i) => {
      const points = places.map((place, k) => [sx(place), sy(curves[i][k])]);
      root.append(svg("path", { d: LogPlot.path(points), fill: "none", stroke: LogPlot.ink(run.colour), "stroke-width": 2, "stroke-dasharray": LogPlot.dash(i) }));
      root.append(LogPlot.mark(run.marker, ...points[Math.round((PLACES - 1) * (0.2 + 0.6 * (i / Math.max(1, data.runs.length)))) ], run.colour));
      for (const point of shown[i].filter((one) => one.rtt_ms >= RTT.low))
        root.append(svg("g", { transform: `translate(${sx(point.rtt_ms)} ${sy(point.ns)}) scale(1.7)` },
          LogPlot.mark(run.marker, 0, 0, run.colour, `${run.label}, measured: ${time(point.ns)} at ${point.rtt_ms} ms`)));
    });
    if (choice.network.rttMs >= RTT.low)
      root.append(svg("line", { class: "axis", x1: sx(choice.network.rttMs), x2: sx(choice.network.rttMs), y1: 12, y2: high - 44, "stroke-width": 1.5 }));
    byId("whatif-lines").replaceChildren(root);
  }
  const near = (mbit) => (mbit === null ? choice.network.rateMbit === null
    : choice.network.rateMbit !== null && Math.abs(Math.log(mbit / choice.network.rateMbit)) < 0.05);

  function pair() {
    const find = (name) => data.runs.find((run) => run.id === get(name));
    const a = find("a") || data.runs[0], others = data.runs.filter((run) => run !== a);
    return [a, find("b") || others.find((run) => run.work === a.work) || others[0]];
  }

  /* The lines on which b's time is a ratio of a's, from a grid of ratios. */
  function cross(a, b, rtts, rates, ratio) {
    const { root, sx, sy } = LogPlot.frame(`Where ${a.label} and ${b.label} take equal time`, RTT, { ...RATE, title: "" });
    for (const level of RATIOS) {
      const segments = contour(rtts, rates, ratio, level);
      const d = segments.map(([p, q]) => LogPlot.path([[sx(p[0]), sy(p[1])], [sx(q[0]), sy(q[1])]])).join("");
      if (!d) continue;
      const even = level === 1;
      root.append(svg("path", { d, fill: "none", stroke: "currentColor", "stroke-width": even ? 3 : 1, "stroke-dasharray": even ? "" : "5 4" }));
      const [p] = segments[segments.length >> 1];
      root.append(svg("text", { x: sx(p[0]) + 5, y: sy(p[1]) - 5 }, even ? "equal" : level > 1 ? `A ${level}×` : `B ${digits(1 / level).replace(".00", "")}×`));
    }
    const corner = (row, column, anchor) => {
      const r = ratio[row][column];
      root.append(svg("text", { x: sx(rtts[column]) + (anchor === "start" ? 8 : -8), y: sy(rates[row]) + (row ? 18 : -10), "text-anchor": anchor },
        r >= 1 ? `A ${digits(r)}× faster` : `B ${digits(1 / r)}× faster`));
    };
    corner(0, 0, "start"); corner(0, GRID - 1, "end"); corner(GRID - 1, 0, "start"); corner(GRID - 1, GRID - 1, "end");
    const { rttMs, rateMbit } = choice.network;
    if (rateMbit && rttMs >= RTT.low)
      root.append(svg("path", { d: `M${sx(rttMs) - 7} ${sy(rateMbit)}h14m-7 -7v14`, stroke: "var(--accent)", "stroke-width": 3 }));
    byId("whatif-cross").replaceChildren(root);
    byId("cross-words").textContent = inWords(a, b, rtts, rates, ratio);
  }

  function inWords(a, b, rtts, rates, ratio) {
    const flat = ratio.flat(), names = `A: ${a.label}; B: ${b.label}.`;
    if (Math.min(...flat) > 1) return `${names} A is faster everywhere here, by ${digits(Math.min(...flat))} to ${digits(Math.max(...flat))} times.`;
    if (Math.max(...flat) < 1) return `${names} B is faster everywhere here, by ${digits(1 / Math.max(...flat))} to ${digits(1 / Math.min(...flat))} times.`;
    const middle = GRID >> 1, at = ReplayLaw.crossings(rtts, ratio[middle].map(() => 1), ratio[middle]);
    const where = at.length ? ` At ${rate(rates[middle])} they take equal time at ${at.map((ms) => `${digits(ms)} ms`).join(" and ")}.` : "";
    return `${names} Which is faster depends on the network.${where}`;
  }

  /* Segments on which a grid has a value, by interpolation in the logarithms. */
  function contour(xs, ys, grid, level) {
    const segments = [], at = (row, column) => Math.log(grid[row][column] / level);
    for (let row = 0; row + 1 < ys.length; row++)
      for (let column = 0; column + 1 < xs.length; column++) {
        const corners = [[row, column], [row, column + 1], [row + 1, column + 1], [row + 1, column]];
        const points = [];
        corners.forEach((corner, i) => {
          const next = corners[(i + 1) % 4], [p, q] = [at(...corner), at(...next)];
          if ((p < 0) === (q < 0)) return;
          const part = p / (p - q), mix = (values, from, to) => values[from] * (values[to] / values[from]) ** part;
          points.push([mix(xs, corner[1], next[1]), mix(ys, corner[0], next[0])]);
        });
        for (let i = 0; i + 1 < points.length; i += 2) segments.push([points[i], points[i + 1]]);
      }
    return segments;
  }

  /* A slider with a number beside it, both logarithmic in what they mean; set by either. */
  function slider(name, label, low, high, value, shown) {
    const place = (number) => Math.round((1000 * Math.log(number / low)) / Math.log(high / low));
    const range = html("input", { type: "range", min: 0, max: 1000, value: place(value), "aria-label": label });
    const field = html("input", { type: "number", min: 0, step: "any", value, id: `whatif-${name}` });
    const tell = () => range.setAttribute("aria-valuetext", shown(Number(field.value)));
    const put = (text) => { set(name, text); tell(); update(); };
    range.addEventListener("input", () => {
      field.value = Number((low * (high / low) ** (range.value / 1000)).toPrecision(3));
      put(field.value);
    });
    field.addEventListener("input", () => {
      const given = Number.parseFloat(field.value);
      if (!(given > 0) && !(name === "rtt" && given === 0)) return;
      range.value = place(Math.max(given, low));
      put(String(given));
    });
    tell();
    return html("label", {}, label, field, range);
  }

  function start(given) {
    data = { ...given, runs: given.traces.map(ReplayLaw.prepared) };
    roles = [...new Set(data.runs.flatMap((run) => run.roles))].sort((a, b) => a.slice(1) - b.slice(1));
    choice = chosen();
    const speeds = choice.speeds;
    const unlimited = html("input", { type: "checkbox", checked: choice.network.rateMbit === null, id: "whatif-unlimited",
      onchange: () => { set("rate", unlimited.checked ? "unlimited" : byId("whatif-rate").value); update(); } });
    byId("whatif-controls").append(
      html("div", { class: "sliders" },
        slider("rtt", "round-trip time, ms", RTT.low, RTT.high, choice.network.rttMs, (value) => `${value} ms`),
        slider("rate", "rate, Mbit/s", RATE.low, RATE.high, choice.network.rateMbit || 1000, rate),
        ...roles.map((role) => slider(role, `speed of ${role}${NAMES[role] || ""}`, 0.125, 16, speeds[role], (value) => `${value} times as fast`))),
      html("div", { class: "controls" },
        html("label", {}, "rate unlimited", unlimited),
        select("The parties stand", [["cpu", "on machines of their own"], ["wall", "on this machine, as it was"]], choice.compute,
               (value) => { set("compute", value); update(); })));
    byId("whatif-parts").hidden = false;
    if (data.runs.length > 1) {
      const runs = data.runs.map((run) => [run.id, run.label]), [a, b] = pair();
      const second = select("B", runs, b.id, (id) => { set("b", id); later(); });
      const first = select("A", runs, a.id, (id) => {
        set("a", id);
        second.lastElementChild.value = pair()[1].id;
        later();
      });
      byId("cross-controls").append(first, second);
      byId("cross-controls").hidden = false;
    }
    TimelineView.start(data, () => TimelineView.update(data, choice.network, choice.compute, choice.speeds));
    update();
  }
  return { start, update, contour };
})();
if (typeof module !== "undefined") module.exports = WhatIf;
