// One memory at a time: a button for each, which fades the points of the others in every picture.

const CHIPS = 12; // memories that can be chosen at once; the others on demand

const chooser = (data) => {
  let chosen = null;
  const chips = [];
  const rows = [...document.querySelectorAll("[data-memory]")].map((dot) => dot.closest("tr"));
  const memoryOf = (row) => Number(row.querySelector("[data-memory]").dataset.memory);
  const present = new Set(data.memory);
  const order = [...new Set([...rows.map(memoryOf), ...[...present].sort((a, b) => a - b)])]
    .filter((memory) => present.has(memory));

  const fade = (points) => {
    points.forEach((point, place) => {
      point.classList.toggle("away", chosen !== null && data.memory[place] !== chosen);
      point.setAttribute("tabindex", "-1");
    });
    points.find((point) => !point.classList.contains("away"))?.setAttribute("tabindex", "0");
  };
  const apply = () => {
    pictures.forEach(fade);
    chips.forEach((chip) => chip.setAttribute("aria-pressed", String(Number(chip.dataset.choice) === chosen)));
    rows.forEach((row) => row.classList.toggle("chosen", memoryOf(row) === chosen));
  };
  const choose = (memory) => {
    chosen = memory === chosen ? null : memory;
    apply();
  };

  const chip = (memory) => {
    const dot = make("span", { class: "dot" });
    dot.style.background = data.colours[memory];
    const made = button(data.names[memory], () => choose(memory), { "aria-pressed": "false", "data-choice": memory });
    made.prepend(dot);
    chips.push(made);
    return made;
  };
  const bar = () => {
    const all = order.map(chip);
    const rest = all.length > CHIPS + 1 ? all.slice(CHIPS) : [];
    rest.forEach((made) => made.setAttribute("hidden", ""));
    const more = button(`show all ${all.length}`, () => {
      rest.forEach((made) => made.removeAttribute("hidden"));
      rest[0].focus();
      more.remove();
    });
    const attributes = { class: "bar chips", role: "group", "aria-label": "Show the points of one memory" };
    return make("div", attributes, "Points of memory", ...all, ...(rest.length ? [more] : []));
  };

  rows.filter((row) => present.has(memoryOf(row))).forEach((row) => {
    row.classList.add("choice");
    row.addEventListener("click", () => getSelection().isCollapsed && choose(memoryOf(row)));
  });
  return { apply, bar, clear: () => chosen !== null && choose(chosen) };
};
