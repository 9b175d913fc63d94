/* Bars of phases, roles and operators of chosen runs. */
"use strict";
const PartBars = (() => {
  const { html, byId, get, set, select, time, bytes } = Basics;
  const LEVELS = [["phases", "phases"], ["roles", "roles"], ["operators", "operators"]];
  const MEASURES = [["time", "time"], ["bytes", "payload bytes"], ["hops", "hops and messages"]];

  /* The bars of one run: name, value, second (hatched) value, text. */
  function partsOf(run, level, measure) {
    if (level === "operators") return operators(run, measure);
    return run.phases.flatMap(([phase, wall, hops, roles]) => {
      if (level === "phases") {
        const size = roles.reduce((sum, role) => sum + role[2], 0);
        const value = { time: wall, bytes: size, hops: hops ?? 0 }[measure];
        return [[phase, value, 0, { time: time(wall), bytes: bytes(size), hops: hops === null ? "–" : `${hops} hops` }[measure]]];
      }
      return roles.map(([role, cpu, size, messages]) => {
        const value = { time: cpu, bytes: size, hops: messages }[measure];
        const text = { time: `${time(cpu)} of processor time`, bytes: bytes(size), hops: `${messages} messages` }[measure];
        return [`${phase}, ${role}`, value, 0, text];
      });
    });
  }

  function operators(run, measure) {
    return run.operators.map(([role, name, compute, wait, size, messages, hops]) => {
      const text = { time: `${time(compute)} computing, ${time(wait)} waiting`, bytes: bytes(size),
                     hops: `${hops} hops, ${messages} messages` }[measure];
      return [`${name}, ${role}`, { time: compute, bytes: size, hops: messages }[measure], measure === "time" ? wait : 0, text];
    });
  }

  function bar(value, second, most) {
    const track = html("div", { class: "track" });
    for (const [part, kind] of [[value, ""], [second, "wait"]]) {
      if (!(part > 0)) continue;
      const span = html("span", { class: kind });
      span.style.width = `${(100 * part) / most}%`;
      track.append(span);
    }
    return track;
  }

  function draw(data) {
    const level = get("level", "phases"), measure = get("measure", "time"), chosen = get("run");
    const runs = chosen ? data.bars.filter((run) => run.id === chosen) : data.bars.filter((run) => data.first.includes(run.id));
    const parts = runs.map((run) => partsOf(run, level, measure));
    const most = Math.max(1e-9, ...parts.flat().map(([, value, second]) => value + second));
    byId("part-bars").replaceChildren(...runs.map((run, i) => {
      if (!parts[i].length) return html("p", {}, `${run.name}: no ${level}; only runs with trace=true have them.`);
      const rows = parts[i].map(([name, value, second, text]) =>
        html("tr", {}, html("th", { scope: "row" }, name), html("td", { class: "bar" }, bar(value, second, most)), html("td", {}, text)));
      const heads = [level.slice(0, -1), "bar", measure].map((name) => html("th", { scope: "col" }, name));
      return html("table", { class: "bars" }, html("caption", {}, run.name),
                  html("thead", {}, html("tr", {}, ...heads)), html("tbody", {}, ...rows));
    }));
  }

  function start(data) {
    const change = (key) => (value) => { set(key, value); draw(data); };
    const runs = [["", "those of the headline"], ...data.bars.map((run) => [run.id, `${run.name} (${run.id.slice(0, 6)})`])];
    byId("part-controls").append(
      select("Run", runs, get("run"), change("run")),
      select("Parts", LEVELS, get("level", "phases"), change("level")),
      select("Measure", MEASURES, get("measure", "time"), change("measure")));
    byId("part-controls").hidden = false;
    draw(data);
  }
  return { start, partsOf };
})();
if (typeof module !== "undefined") module.exports = PartBars;
