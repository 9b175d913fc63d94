/* What a traced run takes on another network: the law of harness/replay/simulate.py and predict.py.

   With a role's clock t, a link's free time f, and a message of w bytes:
     compute    t = t + segment
     send       f = max(t, f) + w · ns_per_byte
                arrival = max(f + delay + handling, t + transport);  t = t + own
     receive    t = max(t + own, arrival)
   An instant is a time and what of it is latency and bandwidth on the path that determined it. */
"use strict";
const ReplayLaw = (() => {
  const ROLES = Array.from({ length: 16 }, (_, number) => `P${number}`);
  const SEND = 0, RECV = 1;
  const LEAST_NS = 0.5, STEPS_PER_E = 1900; // of harness/replay/page_traces.py
  const LEAST_DELAY_NS = 1e5; // delays are compared evenly below this, and by their ratio above
  const TIMES = new Float64Array(65536);
  for (let place = 1; place < 65536; place++) TIMES[place] = LEAST_NS * Math.exp(place / STEPS_PER_E);

  /* Packed times as numbers, in ns. */
  function unpacked(text) {
    const bytes = atob(text), times = new Float64Array(bytes.length / 2);
    for (let i = 0; i < times.length; i++)
      times[i] = TIMES[bytes.charCodeAt(2 * i) + 256 * bytes.charCodeAt(2 * i + 1)];
    return times;
  }

  /* The operations of all roles in an order in which every message is sent before it is received: a
     role's sequence is fixed and links are first in, first out, so this order holds on any network. */
  function ordered(program) {
    const roles = ROLES.filter((role) => role in program);
    const at = roles.map(() => 0), links = [], queues = [];
    const list = [];
    let messages = 0;
    const link = (from, to) => {
      const name = `${from}>${to}`;
      if (!links.includes(name)) { links.push(name); queues.push([]); }
      return links.indexOf(name);
    };
    for (let moved = true; moved;) {
      moved = false;
      roles.forEach((role, r) => {
        const own = program[role];
        for (; at[r] < own.kind.length; at[r]++) {
          const i = at[r], kind = own.kind[i], peer = ROLES[own.peer[i]];
          const operation = { role: r, place: i, kind, bytes: own.bytes[i], label: own.label[i], link: 0, message: 0 };
          if (kind === SEND) {
            operation.link = link(role, peer);
            operation.message = messages++;
            queues[operation.link].push(operation.message);
          } else if (kind === RECV) {
            operation.link = link(peer, role);
            if (!queues[operation.link].length) break;
            operation.message = queues[operation.link].shift();
          }
          list.push(operation);
          moved = true;
        }
      });
    }
    if (roles.some((role, r) => at[r] < program[role].kind.length))
      throw new Error("a role waits for a message that is never sent");
    return { roles, links, list, messages, columns: columnsOf(list) };
  }

  function columnsOf(list) {
    const column = (name, kind = Int32Array) => kind.from(list, (operation) => operation[name]);
    return { role: column("role"), kind: column("kind"), bytes: column("bytes", Float64Array),
             link: column("link"), message: column("message") };
  }

  /* One step's times, an array of operations × 4 for each evaluation (before, during, transport,
     handling), in the program's order. */
  function costsOf(step, program, order, compute) {
    const times = unpacked(step[compute]);
    const evaluations = step.evaluations, size = order.list.length;
    const entry = [], costs = Array.from({ length: evaluations }, () => new Float64Array(4 * size));
    const where = order.roles.map((role) => new Int32Array(program[role].kind.length));
    order.list.forEach((operation, i) => { where[operation.role][operation.place] = i; });
    let next = 0;
    order.roles.forEach((role, r) => {
      const kinds = program[role].kind, sends = kinds.flatMap((kind, i) => (kind === SEND ? [i] : []));
      entry.push(times.slice(next, next + evaluations));
      next += evaluations;
      for (let e = 0; e < evaluations; e++) {
        for (const [part, places] of [[0, null], [1, null], [2, sends], [3, sends]]) {
          const count = places ? places.length : kinds.length;
          for (let i = 0; i < count; i++)
            costs[e][4 * where[r][places ? places[i] : i] + part] = times[next + i];
          next += count;
        }
      }
    });
    return { entry, costs };
  }

  /* A run of the page's data, ready to predict. */
  function prepared(data) {
    const orders = data.programs.map(ordered);
    const variants = data.variants.map((variant) => ({
      delayNs: variant.delay_ns,
      steps: variant.steps.map((step) => {
        const order = orders[step.program], program = data.programs[step.program];
        return { order, evaluations: step.evaluations,
                 cpu: costsOf(step, program, order, "cpu"), wall: costsOf(step, program, order, "wall") };
      }),
    }));
    return { ...data, roles: orders[0].roles, variants };
  }

  /* Delay in ns and ns a byte of each link. network: rttMs, rateMbit (null: unlimited) of the links
     between the roles that are online; links with another role, a dealer, are free. */
  function linksOf(run, order, network) {
    const main = (name) => run.main.includes(name);
    return {
      delay: Float64Array.from(order.links, (n) => (main(n) ? network.rttMs * 5e5 : 0)),
      serial: Float64Array.from(order.links, (n) => (main(n) && network.rateMbit ? 8e3 / network.rateMbit : 0)),
    };
  }

  /* How many times as long as traced the roles of an order take; speeds: by role, 2 is twice as fast. A
     message, in which sender and receiver both have a part, takes the mean of the two. */
  function scalesOf(order, speeds) {
    const own = Float64Array.from(order.roles, (role) => 1 / (speeds[role] || 1));
    const links = Float64Array.from(order.links, (name) =>
      name.split(">").reduce((sum, role) => sum + 1 / (speeds[role] || 1), 0) / 2);
    return { own, links };
  }

  /* One evaluation of one step: [time, latency, bandwidth] of the last role's end. seen: is told every
     operation's begin and end, and every message's begin and arrival. */
  function simulated(step, compute, evaluation, lines, scales, seen = null) {
    const { order } = step, { role, kind, bytes, link, message } = order.columns;
    const costs = step[compute].costs[evaluation], entry = step[compute].entry;
    const own = scales.own, shared = scales.links;
    const clock = new Float64Array(3 * order.roles.length);
    const free = new Float64Array(3 * order.links.length).fill(-1);
    const arrival = new Float64Array(3 * order.messages);
    for (let r = 0; r < order.roles.length; r++) clock[3 * r] = entry[r][evaluation] * own[r];
    for (let i = 0; i < kind.length; i++) {
      const c = 3 * role[i], scale = own[role[i]], start = clock[c];
      const before = costs[4 * i] * scale, during = costs[4 * i + 1] * scale;
      if (kind[i] === SEND) {
        const f = 3 * link[i], m = 3 * message[i], l = link[i];
        const t = start + before;
        if (free[f] < t) { free[f] = t; free[f + 1] = clock[c + 1]; free[f + 2] = clock[c + 2]; }
        const took = bytes[i] * lines.serial[l];
        free[f] += took;
        free[f + 2] += took;
        const landed = free[f] + lines.delay[l] + costs[4 * i + 3] * shared[l];
        const least = t + costs[4 * i + 2] * shared[l];
        const over = least > landed;
        arrival[m] = over ? least : landed;
        arrival[m + 1] = over ? clock[c + 1] : free[f + 1] + lines.delay[l];
        arrival[m + 2] = over ? clock[c + 2] : free[f + 2];
        clock[c] = t + during;
        if (seen) seen(order.list[i], start, t, clock[c], arrival[m]);
      } else if (kind[i] === RECV) {
        const m = 3 * message[i], t = start + before, ready = t + during;
        if (arrival[m] > ready) {
          clock[c] = arrival[m]; clock[c + 1] = arrival[m + 1]; clock[c + 2] = arrival[m + 2];
        } else clock[c] = ready;
        if (seen) seen(order.list[i], start, t, clock[c], arrival[m]);
      } else {
        clock[c] = start + before;
        if (seen) seen(order.list[i], start, clock[c], clock[c], clock[c]);
      }
    }
    let last = 0;
    for (let c = 3; c < clock.length; c += 3) if (clock[c] > clock[last]) last = c;
    return [clock[last], clock[last + 1], clock[last + 2]];
  }

  /* Median, least and most time, latency and bandwidth of one variant's evaluations, in ns. */
  function summary(run, variant, compute, network, speeds) {
    const evaluations = variant.steps[0].evaluations;
    const totals = Array.from({ length: evaluations }, () => [0, 0, 0]);
    for (const step of variant.steps) {
      const lines = linksOf(run, step.order, network), scales = scalesOf(step.order, speeds);
      for (let e = 0; e < evaluations; e++) {
        const parts = simulated(step, compute, e, lines, scales);
        for (let p = 0; p < 3; p++) totals[e][p] += parts[p];
      }
    }
    const sorted = totals.slice().sort((a, b) => a[0] - b[0]);
    const low = sorted[(evaluations - 1) >> 1], high = sorted[evaluations >> 1];
    const median = (low[0] + high[0]) / 2, share = low[0] > 0 ? median / low[0] : 0;
    return [median, sorted[0][0], sorted[evaluations - 1][0], low[1] * share, low[2] * share];
  }

  /* What lies between the summaries at the two delays beside the network's, evenly over
     ln(1 + delay / LEAST_DELAY_NS); only those two are simulated. */
  function predicted(run, network, compute = "cpu", speeds = {}) {
    const place = (ns) => Math.log1p(ns / LEAST_DELAY_NS);
    const asked = place(run.main.length ? network.rttMs * 5e5 : 0), variants = run.variants;
    const known = variants.map((variant) => place(variant.delayNs));
    let upper = known.findIndex((at) => at >= asked);
    if (upper < 0) upper = known.length - 1;
    const lower = known[upper] > asked ? upper - 1 : upper;
    const a = summary(run, variants[lower], compute, network, speeds);
    if (lower === upper) return named(a);
    const b = summary(run, variants[upper], compute, network, speeds);
    const part = (asked - known[lower]) / (known[upper] - known[lower]);
    return named(a.map((value, i) => value + (b[i] - value) * part));
  }

  function named([online, low, high, latency, bandwidth]) {
    return { online, low, high, latency, bandwidth, compute: online - latency - bandwidth };
  }

  /* One step's middle evaluation as events: what each role does, in order, and every message. */
  function timeline(run, stepNumber, network, compute = "cpu", speeds = {}) {
    const step = nearest(run, network).steps[stepNumber] || run.variants[0].steps[stepNumber];
    const lines = linksOf(run, step.order, network), scales = scalesOf(step.order, speeds);
    const times = Array.from({ length: step.evaluations }, (_, e) =>
      [simulated(step, compute, e, lines, scales)[0], e]).sort((a, b) => a[0] - b[0]);
    const [end, evaluation] = times[(times.length - 1) >> 1];
    const slices = [], messages = [];
    simulated(step, compute, evaluation, lines, scales, (operation, start, begin, done, arrived) => {
      const role = step.order.roles[operation.role], label = run.labels[operation.label] || "";
      if (begin > start) slices.push({ role, what: "compute", start, end: begin, label });
      if (operation.kind === SEND) {
        slices.push({ role, what: "send", start: begin, end: done, label });
        const [from, to] = step.order.links[operation.link].split(">");
        messages[operation.message] = { from, to, label, bytes: operation.bytes, start: begin, end: arrived };
      } else if (operation.kind === RECV) {
        slices.push({ role, what: "wait", start: begin, end: done, label });
        messages[operation.message].end = done;
      }
    });
    return { roles: step.order.roles, slices, messages, end };
  }

  function nearest(run, network) {
    const far = (variant) => Math.abs(Math.log1p(variant.delayNs / LEAST_DELAY_NS)
      - Math.log1p(network.rttMs * 5e5 / LEAST_DELAY_NS));
    return run.variants.reduce((best, variant) => (far(variant) < far(best) ? variant : best));
  }

  /* Where along places two times are equal, as `crossings` of harness/replay/predict.py. */
  function crossings(places, a, b) {
    const ratio = a.map((time, i) => Math.log(time / b[i])), found = [];
    for (let i = 0; i + 1 < places.length; i++) {
      if (ratio[i] === 0 || ratio[i] * ratio[i + 1] < 0) {
        const part = ratio[i] === ratio[i + 1] ? 0 : ratio[i] / (ratio[i] - ratio[i + 1]);
        found.push(places[i] * Math.pow(places[i + 1] / places[i], part));
      }
    }
    return found;
  }

  return { prepared, predicted, timeline, crossings, unpacked };
})();
if (typeof module !== "undefined") module.exports = ReplayLaw;
