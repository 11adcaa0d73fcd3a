"use strict";
// Sorting, search and copying for the tables. Without this script everything is still there to read.
(() => {
  const number = (cell) => parseFloat(cell.textContent.replace(/,/g, ""));
  const make = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text, ...more });

  const compare = (column, down) => (a, b) => {
    const [x, y] = [a.cells[column], b.cells[column]];
    const [p, q] = [number(x), number(y)];
    if (isNaN(p) && isNaN(q)) return (down ? -1 : 1) * x.textContent.localeCompare(y.textContent);
    if (isNaN(p) || isNaN(q)) return isNaN(p) ? 1 : -1; // dashes last, either way
    return down ? q - p : p - q;
  };

  const sort = (table, heading, column) => {
    const down = heading.getAttribute("aria-sort") !== "descending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => row.cells.length > 1);
      body.append(...rows.sort(compare(column, down))); // a heading of one cell stays first
    }
  };

  // Words that the row contains, and comparisons as few>50; all must hold.
  const test = (table, text) => {
    const headings = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.toLowerCase().replace(/\s/g, ""));
    const tests = text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
      const [, name, sign, value] = word.match(/^([^<>]+)([<>])(-?[\d.]+)$/) || [];
      const column = name ? headings.findIndex((heading) => heading.startsWith(name)) : -1;
      if (column < 0) return (row) => row.textContent.toLowerCase().includes(word);
      return (row) => (sign === ">" ? number(row.cells[column]) > value : number(row.cells[column]) < value);
    });
    return (row) => tests.every((holds) => holds(row));
  };

  for (const table of document.querySelectorAll("table.data")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = make("button", heading.textContent, { type: "button", title: "sort" });
      button.addEventListener("click", () => sort(table, heading, column));
      heading.replaceChildren(button);
    });
    const search = make("input", "", { type: "search", placeholder: "words, or e.g. few>50" });
    search.setAttribute("aria-label", "search in the table");
    search.addEventListener("input", () => {
      const holds = test(table, search.value);
      for (const row of table.querySelectorAll("tbody tr")) row.hidden = row.cells.length > 1 && !holds(row);
    });
    const tools = make("div", "", { className: "tools" });
    tools.append(search);
    table.parentElement.before(tools);
  }

  for (const text of document.querySelectorAll("details.text pre")) {
    const button = make("button", "Copy", { type: "button" });
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text.textContent);
      } catch {
        getSelection().selectAllChildren(text);
        document.execCommand("copy");
      }
      button.textContent = "Copied";
    });
    text.before(button);
  }
})();
