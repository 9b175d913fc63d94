/* A plot of our own: axes that are logarithmic or not, lines with dashes, marks with shapes. */
"use strict";
const LogPlot = (() => {
  const { svg } = Basics;
  const WIDE = 760, LEFT = 74, BELOW = 44, ABOVE = 12, RIGHT = 16;
  const DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4"];

  const log = (low, high, from, to) => (value) =>
    from + ((Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (to - from);

  /* Round numbers between two, about as many as `most`. */
  function ticks(low, high, most = 8) {
    const choices = [[1, 2, 5], [1, 3], [1]].map((steps) => {
      const found = [];
      for (let d = Math.floor(Math.log10(low)); d <= Math.log10(high); d++)
        for (const step of steps) {
          const tick = Number((step * 10 ** d).toPrecision(3));
          if (tick >= low * 0.999 && tick <= high * 1.001) found.push(tick);
        }
      return found;
    });
    return choices.find((found) => found.length <= most) || choices[2];
  }

  /* A frame with both axes; x, y: {low, high, text, title}. */
  function frame(label, x, y, high = 380) {
    const sx = log(x.low, x.high, LEFT, WIDE - RIGHT), sy = log(y.low, y.high, high - BELOW, ABOVE);
    const root = svg("svg", { viewBox: `0 0 ${WIDE} ${high}`, role: "img", "aria-label": label });
    for (const tick of ticks(x.low, x.high))
      root.append(svg("line", { class: "gridline", x1: sx(tick), x2: sx(tick), y1: ABOVE, y2: high - BELOW }),
                  svg("text", { x: sx(tick), y: high - BELOW + 16, "text-anchor": "middle" }, x.text(tick)));
    for (const tick of ticks(y.low, y.high))
      root.append(svg("line", { class: "gridline", x1: LEFT, x2: WIDE - RIGHT, y1: sy(tick), y2: sy(tick) }),
                  svg("text", { x: LEFT - 6, y: sy(tick) + 4, "text-anchor": "end" }, y.text(tick)));
    root.append(svg("text", { x: (LEFT + WIDE) / 2, y: high - 6, "text-anchor": "middle" }, x.title));
    return { root, sx, sy, high };
  }

  const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

  /* Matplotlib's markers that harness/report/styles.py uses, as paths about (0, 0). */
  const SHAPES = {
    o: "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0", s: "M-4.5 -4.5h9v9h-9z", D: "M0 -6L6 0L0 6L-6 0z",
    "^": "M0 -6L6 5H-6z", v: "M0 6L6 -5H-6z", "<": "M-6 0L5 -6V6z", ">": "M6 0L-5 -6V6z",
    P: "M-2 -6h4v4h4v4h-4v4h-4v-4h-4v-4h4z", X: "M-5 -3L-3 -5L0 -2L3 -5L5 -3L2 0L5 3L3 5L0 2L-3 5L-5 3L-2 0z",
    h: "M0 -6L5.2 -3V3L0 6L-5.2 3V-3z", H: "M-6 0L-3 -5.2H3L6 0L3 5.2H-3z", d: "M0 -6L3.6 0L0 6L-3.6 0z",
    8: "M-2.4 -5.8H2.4L5.8 -2.4V2.4L2.4 5.8H-2.4L-5.8 2.4V-2.4z", p: "M0 -6L6 -1.5L3.7 5H-3.7L-6 -1.5z", "*": "M0 -6L1.8 -2H6L2.6 1L4 6L0 3L-4 6L-2.6 1L-6 -2H-1.8z",
  };
  function mark(shape, x, y, colour, title = "") {
    const drawn = svg("path", { d: SHAPES[shape] || SHAPES.o, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, ...look(colour) });
    if (title) drawn.append(svg("title", {}, title));
    return drawn;
  }
  /* Black lines are drawn in the colour of text, which is light on dark. */
  const ink = (colour) => (colour === "#000000" ? "currentColor" : colour);
  const look = (colour) => ({ fill: ink(colour), stroke: "var(--paper)", "stroke-width": 1 });
  const dash = (place) => DASHES[place % DASHES.length];
  return { frame, path, mark, dash, ink, log, ticks, SHAPES };
})();
if (typeof module !== "undefined") module.exports = LogPlot;
