/* The timeline of one evaluation: a lane a role, and messages as arrows. */
"use strict";
const TimelineView = (() => {
  const { html, svg, byId, get, set, number, select, time, bytes } = Basics;
  const WIDE = 960, LEFT = 44, LANE = 84, BAR = 18, TOP = 30;
  const MOST_DRAWN = 3000;
  let shown = null; // the timeline drawn, and what of it: [from, to] in ns
  let span = [0, 1];

  function update(data, network, compute, speeds) {
    const run = data.runs.find((one) => one.id === get("trace")) || data.runs[0];
    const step = Math.min(number("step", 0), run.variants[0].steps.length - 1);
    shown = ReplayLaw.timeline(run, step, network, compute, speeds);
    shown.name = `${run.label}, ${Basics.digits(network.rttMs)} ms, ${Basics.rate(network.rateMbit)}`;
    span = [0, shown.end || 1];
    draw();
    if (byId("timeline-messages").open) list();
  }

  function draw() {
    const [from, to] = span, roles = shown.roles.filter((role) => shown.slices.some((one) => one.role === role && one.what !== "compute"));
    const lanes = roles.length ? roles : shown.roles, high = TOP + 50 + LANE * (lanes.length - 1);
    const x = (ns) => LEFT + ((ns - from) / (to - from)) * (WIDE - LEFT - 8);
    const y = (role) => TOP + 14 + LANE * lanes.indexOf(role);
    const root = svg("svg", { viewBox: `0 0 ${WIDE} ${high}`, role: "img",
      "aria-label": `Timeline of ${shown.name}: ${shown.messages.length} messages in ${time(shown.end)}; shown ${time(from)} to ${time(to)}` });
    root.append(clip(high));
    const inside = svg("g", { "clip-path": "url(#timeline-clip)" });
    for (let i = 0; i <= 6; i++) {
      const at = from + ((to - from) * i) / 6, anchor = i === 6 ? "end" : "middle";
      root.append(svg("line", { class: "gridline", x1: x(at), x2: x(at), y1: TOP - 8, y2: high }),
                  svg("text", { x: x(at), y: 14, "text-anchor": anchor }, time(at)));
    }
    for (const role of lanes)
      root.append(svg("text", { x: 4, y: y(role) + 14 }, role),
                  svg("line", { class: "axis", x1: LEFT, x2: WIDE - 8, y1: y(role) + BAR, y2: y(role) + BAR }));
    const visible = shown.slices.filter((one) => one.end > from && one.start < to && lanes.includes(one.role));
    visible.sort((a, b) => (b.end - b.start) - (a.end - a.start));
    for (const one of visible.slice(0, MOST_DRAWN)) inside.append(slice(one, x, y(one.role)));
    const sent = shown.messages.filter((one) => one.end > from && one.start < to);
    const taken = [];
    for (const one of sent.slice(0, MOST_DRAWN)) inside.append(...arrow(one, x, y, taken));
    root.append(inside);
    byId("timeline-plot").replaceChildren(root);
  }

  function clip(high) {
    return svg("defs", {}, svg("clipPath", { id: "timeline-clip" }, svg("rect", { x: LEFT, y: 0, width: WIDE - LEFT - 4, height: high })));
  }

  function slice(one, x, top) {
    const kind = { compute: "compute", send: "send", wait: "waiting" }[one.what];
    const drawn = svg("rect", { class: kind, x: x(one.start).toFixed(2), y: one.what === "wait" ? top + 3 : top,
      width: Math.max(0.6, x(one.end) - x(one.start)).toFixed(2), height: one.what === "wait" ? BAR - 6 : BAR });
    drawn.append(svg("title", {}, `${one.role} ${one.what} ${time(one.end - one.start)}${one.label ? `: ${one.label}` : ""}`));
    return drawn;
  }

  /* taken: where texts stand already; one that has no room is left to zooming, the title and the table. */
  function arrow(one, x, y, taken) {
    const down = y(one.to) > y(one.from);
    const [x1, x2] = [x(one.start), x(one.end)];
    const [y1, y2] = down ? [y(one.from) + BAR, y(one.to)] : [y(one.from), y(one.to) + BAR];
    const line = svg("line", { class: "arrow", x1, y1, x2, y2 });
    const angle = Math.atan2(y2 - y1, x2 - x1) * 180 / Math.PI;
    const head = svg("path", { class: "head", d: "M0 0L-7 -3V3z", transform: `translate(${x2.toFixed(2)} ${y2.toFixed(2)}) rotate(${angle.toFixed(1)})` });
    const words = `${one.label ? `${one.label}, ` : ""}${bytes(one.bytes)}`;
    line.append(svg("title", {}, `${one.from} to ${one.to}: ${words}, ${time(one.end - one.start)}`));
    for (const at of [0.5, 0.25, 0.75]) {
      const [left, base] = [x1 + (x2 - x1) * at + 4, y1 + (y2 - y1) * at + 4], right = left + 6.5 * words.length;
      const free = left > LEFT && right < WIDE && taken.every(([l, r, b]) => right < l || left > r || Math.abs(base - b) > 13);
      if (!free) continue;
      taken.push([left, right, base]);
      return [line, head, svg("text", { x: left, y: base, class: "message" }, words)];
    }
    return [line, head];
  }

  /* part: of what is shown, about its middle; by: to the right, in parts of what is shown. */
  function zoom(part, by = 0) {
    const wide = Math.min(shown.end, Math.max((span[1] - span[0]) * part, shown.end / 1e5));
    const middle = (span[0] + span[1]) / 2 + by * wide;
    const from = Math.min(Math.max(0, middle - wide / 2), shown.end - wide);
    span = [from, from + wide];
    draw();
  }
  const whole = () => { span = [0, shown.end]; draw(); };
  const ACTS = {
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), ArrowLeft: () => zoom(1, -0.25),
    ArrowRight: () => zoom(1, 0.25), 0: whole, Home: whole,
  };
  function key(event) {
    if (!(event.key in ACTS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    ACTS[event.key]();
  }

  function list() {
    const heads = ["#", "from", "to", "step", "bytes on the wire", "sent at", "received at"];
    const rows = shown.messages.slice(0, MOST_DRAWN).map((one, i) => html("tr", {},
      ...[i + 1, one.from, one.to, one.label || "–", bytes(one.bytes), time(one.start), time(one.end)].map((text) => html("td", {}, String(text)))));
    byId("timeline-messages").lastElementChild.replaceChildren(html("table", {}, html("caption", {}, shown.name),
      html("thead", {}, html("tr", {}, ...heads.map((head) => html("th", { scope: "col" }, head)))), html("tbody", {}, ...rows)));
  }

  /* redraw: draws for the network that is chosen. */
  function start(data, redraw) {
    const steps = (run) => run.variants[0].steps.map((_, i) => [String(i), `step ${i + 1}`]);
    const button = (text, name, act) => html("button", { type: "button", "aria-label": name, onclick: act }, text);
    const choose = (id) => { set("trace", id); set("step", ""); controls(); redraw(); };
    function controls() {
      const run = data.runs.find((one) => one.id === get("trace")) || data.runs[0];
      const several = run.variants[0].steps.length > 1;
      byId("timeline-controls").replaceChildren(
        select("Run", data.runs.map((one) => [one.id, one.label]), run.id, choose),
        ...(several ? [select("Step", steps(run), get("step", "0"), (step) => { set("step", step); redraw(); })] : []),
        button("+", "zoom in", () => zoom(0.5)), button("−", "zoom out", () => zoom(2)),
        button("←", "to the left", () => zoom(1, -0.25)), button("→", "to the right", () => zoom(1, 0.25)),
        button("all", "show all", whole));
    }
    controls();
    for (const id of ["timeline-controls", "timeline-plot", "timeline-messages"]) byId(id).hidden = false;
    byId("timeline-plot").addEventListener("keydown", key);
    byId("timeline-messages").addEventListener("toggle", list);
  }
  return { start, update };
})();
