/* The table of records: sorted and filtered by keyboard, its columns and commands. */
"use strict";
const RecordTable = (() => {
  const { html, byId, get, set, select, sizeOf } = Basics;
  const FACETS = ["experiment", "model", "system", "network", "status"];
  const AT_ONCE = 40, A_FRAME = 60; // rows that are shown
  const order = new Intl.Collator("en", { numeric: true });

  /* commands: what measures each row again, as the words of all and each one's places among them. */
  function start(commands) {
    const table = byId("records-table"), body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const names = heads.map((cell) => cell.textContent);
    let rows = [...body.rows].map((row, i) => {
      const cells = [...row.cells], texts = cells.map((cell) => cell.textContent.toLowerCase());
      const command = commands.texts[i].map((place) => commands.words[place]).join(" ");
      return { row, cells, texts, all: texts.join(" "), command, shown: true };
    });
    const asMade = rows;
    const said = html("output", { "aria-live": "polite" });

    function matching() {
      const words = get("q").toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
        const [head, text] = word.split(/:(.*)/s), column = names.indexOf(head);
        return text !== undefined && column > 0 ? [column, text] : [-1, word];
      });
      const facets = FACETS.map((name) => [names.indexOf(name), get(name).toLowerCase()])
        .filter(([column, text]) => column > 0 && text);
      return rows.filter((one) => facets.every(([column, text]) => one.texts[column] === text)
        && words.every(([column, text]) => (column < 0 ? one.all : one.texts[column]).includes(text)));
    }

    function filter(atOnce = AT_ONCE) {
      const found = matching();
      show(found, atOnce);
      said.textContent = `${found.length} of ${rows.length} records`;
    }

    /* The rows of a screen at once, the others a few a frame: a thousand take longer than a key may. */
    let job = 0;
    function show(found, atOnce) {
      const mine = ++job, first = new Set(found.slice(0, atOnce)), waiting = found.slice(atOnce);
      for (const one of rows) turn(one, first.has(one));
      if (found.length) stopAt(found[0]);
      const go = () => {
        if (mine !== job) return;
        for (const one of waiting.splice(0, A_FRAME)) turn(one, true);
        if (waiting.length) requestAnimationFrame(go);
      };
      if (waiting.length) requestAnimationFrame(go);
    }
    /* Of all rows' buttons Tab stops at one; arrow keys go on from there. */
    let stop = null;
    function stopAt(one) {
      if (stop) stop.tabIndex = -1;
      stop = one.button;
      stop.tabIndex = 0;
    }
    function turn(one, shown) {
      if (one.shown !== shown) one.row.hidden = !shown;
      one.shown = shown;
    }

    function sort() {
      const given = get("sort"), falling = given.startsWith("-");
      const column = names.indexOf(falling ? given.slice(1) : given);
      heads.forEach((head, i) => {
        if (i === column) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
      if (column < 0) return;
      const numeric = heads[column].className === "n";
      const keyed = rows.map((one) => [one, numeric ? sizeOf(one.cells[column].textContent) : null, one.texts[column]]);
      const known = ([, value, text]) => (value !== null || !["–", ""].includes(text) ? 0 : 1);
      keyed.sort((a, b) => known(a) - known(b) || (falling ? -1 : 1)
        * (a[1] !== null && b[1] !== null ? a[1] - b[1] : order.compare(a[2], b[2])));
      reorder(keyed.map(([one]) => one));
    }
    function reorder(ordered) {
      rows = ordered;
      for (const one of rows) turn(one, false);
      body.append(...rows.map((one) => one.row));
      filter();
    }

    addEventListener("beforeprint", () => filter(rows.length));

    const change = (key) => (value) => { set(key, value); filter(); };
    function controls() {
      const input = html("input", { type: "search", value: get("q"), size: 24, oninput: () => change("q")(input.value),
                                    "aria-describedby": "filter-help" });
      const parts = [html("label", {}, "Filter", input)];
      for (const name of FACETS) {
        const column = names.indexOf(name);
        if (column < 0) continue;
        const values = [...new Set(rows.map((one) => one.cells[column].textContent))].sort(order.compare);
        const choices = [["", "all"], ...values.map((value) => [value, value])];
        if (values.length > 1) parts.push(select(name, choices, get(name), change(name)));
      }
      const reset = html("button", { type: "button", onclick: () => {
        for (const key of ["q", "sort", ...FACETS]) set(key, "");
        input.value = "";
        byId("record-controls").querySelectorAll("select").forEach((one) => { one.value = ""; });
        reorder(asMade);
        sort();
      } }, "Show all");
      const help = html("span", { id: "filter-help", class: "soft" }, "words, or column:text, as system:puma; in the table ↑ and ↓ go from row to row");
      byId("record-controls").append(...parts, reset, help, said);
      byId("record-controls").hidden = false;
    }

    function sortable() {
      heads.forEach((head, i) => {
        const name = names[i];
        const button = html("button", { type: "button", onclick: () => {
          set("sort", get("sort") === name ? `-${name}` : name);
          sort();
        } }, name);
        head.replaceChildren(button);
      });
    }

    /* The cells of columns that are not chosen are taken out: rows with few cells are shown sooner. */
    function columns() {
      const boxes = [...document.querySelectorAll("#columns input")];
      const plain = boxes.map((box) => box.checked);
      const chosen = get("columns") && get("columns").split(",");
      const apply = () => {
        const kept = (cells) => cells.filter((_, i) => i === 0 || boxes[i - 1].checked);
        table.tHead.rows[0].replaceChildren(...kept(heads));
        for (const { row, cells } of rows) row.replaceChildren(...kept(cells));
      };
      boxes.forEach((box, i) => {
        if (chosen) box.checked = chosen.includes(names[i + 1]);
        box.addEventListener("change", () => {
          apply();
          const same = boxes.every((one, k) => one.checked === plain[k]);
          set("columns", same ? "" : boxes.flatMap((one, k) => (one.checked ? [names[k + 1]] : [])).join(","));
        });
      });
      apply();
      byId("unchecked").disabled = true;
    }

    function actions() {
      for (const one of rows) {
        const cell = one.cells[0], name = `copy the command of ${cell.textContent}`;
        one.button = html("button", { type: "button", "aria-label": name, title: one.command, tabindex: -1 }, "copy");
        cell.append(" ", one.button);
      }
      body.addEventListener("click", async (event) => {
        const one = rows.find(({ button }) => button === event.target);
        if (!one) return;
        said.textContent = (await copied(one.command)) ? `copied: ${one.command}` : one.command;
        stopAt(one);
        one.button.focus();
      });
      body.addEventListener("keydown", (event) => {
        const by = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
        const shown = rows.filter((one) => one.shown), at = shown.findIndex(({ button }) => button === event.target);
        if (!by || at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault();
        const next = shown[Math.min(Math.max(at + by, 0), shown.length - 1)];
        stopAt(next);
        next.button.focus();
      });
    }

    controls();
    sortable();
    columns();
    actions();
    filter();
    sort();
    return { filter, sort };
  }

  async function copied(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = html("textarea", {}, text);
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  }
  return { start };
})();
