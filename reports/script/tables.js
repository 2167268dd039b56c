// Tables that sort by a column: rising, falling, and as written.

const DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const NUMBER = new RegExp(
  "^(under |over )?([−-]?)(∞|(?:\\d{1,3}(?:\\u202f\\d{3})+|\\d+)(?:\\.\\d+)?)" +
  "(?:\\u202f×\\u202f10(⁻?[" + DIGITS + "]+))?(?=$|[\\s%])");
const LEAST = 2; // rows below which there is nothing to sort

const exponentOf = (text) =>
  Number([...text].map((sign) => (sign === "⁻" ? "-" : DIGITS.indexOf(sign))).join(""));

// What a cell sorts by: numbers before words, cells without a value at the end.
const keyOf = (cell) => {
  const text = cell.textContent.trim();
  if (text === "" || text === "–") return { kind: 2 };
  const found = NUMBER.exec(text);
  if (!found) return { kind: 1, text };
  const [, bound, sign, digits, power] = found;
  let value = digits === "∞" ? Infinity : Number(digits.replace(/\u202f/g, ""));
  value *= power ? 10 ** exponentOf(power) : 1;
  if (sign) value = -value;
  return { kind: 0, value, side: bound ? (bound === "over " ? 1 : -1) : 0 };
};

const compare = (one, other) => {
  if (one.kind === 1) return one.text.localeCompare(other.text, "en", { numeric: true });
  return one.kind === 2 ? 0 : one.value < other.value ? -1 : one.value > other.value ? 1 : one.side - other.side;
};

const sortable = (table) => {
  const body = table.tBodies[0];
  const written = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const sort = (head, column) => {
    const next = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
    const direction = next === undefined ? "ascending" : next;
    heads.forEach((cell) => cell.removeAttribute("aria-sort"));
    if (direction === null) return body.append(...written);
    head.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = written.map((row) => ({ row, key: keyOf(row.cells[column]) }));
    keyed.sort((a, b) => a.key.kind - b.key.kind || sign * compare(a.key, b.key));
    return body.append(...keyed.map(({ row }) => row));
  };
  heads.forEach((head, column) => {
    if (!head.textContent.trim() || head.querySelector("a")) return;
    const button = make("button", { type: "button", class: "sort" }, ...head.childNodes);
    button.addEventListener("click", () => sort(head, column));
    head.append(button);
  });
};
