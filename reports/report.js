// The page's own script: tables that sort, points that say which row they are, and one memory at a time.
// The page is complete without it; everything that needs it is made here. It loads nothing.
"use strict";
(() => {
  const DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const NUMBER = new RegExp(
    "^(under |over )?([−-]?)(∞|(?:\\d{1,3}(?:\\u202f\\d{3})+|\\d+)(?:\\.\\d+)?)" +
    "(?:\\u202f×\\u202f10(⁻?[" + DIGITS + "]+))?(?=$|[\\s%])");
  const LEAST = 2; // rows below which there is nothing to sort

  const make = (name, attributes, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };

  // Tables -------------------------------------------------------------------------------------------------------

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

  // Points -------------------------------------------------------------------------------------------------------

  const tip = make("div", { class: "tip", role: "status", hidden: "" });
  const ring = make("div", { class: "ring", hidden: "" });
  let current = null; // the point that both belong to

  const put = (element, left, top) => {
    element.style.left = `${left + scrollX}px`;
    element.style.top = `${top + scrollY}px`;
  };

  const place = () => {
    if (!current) return;
    const box = current.getBoundingClientRect();
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    const frame = current.closest(".plot").getBoundingClientRect(); // which may be scrolled sideways
    tip.hidden = ring.hidden = x < frame.left || x > frame.right;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    const above = y - tip.offsetHeight - 14;
    put(tip, Math.max(8, Math.min(x + 12, room)), above > 4 ? above : y + 14);
    put(ring, x, y);
  };

  const show = (point) => {
    if (point === current) return;
    current = point;
    tip.hidden = ring.hidden = !point;
    tip.textContent = point ? point.getAttribute("aria-label") : "";
    place();
  };

  const words = (data, place) => {
    const memory = data.memory.length ? `, memory ${data.names[data.memory[place]]}` : "";
    const sure = data.confidence.length ? `, confidence ${data.confidence[place]}` : "";
    return `row ${data.row[place]}${memory}${sure}`;
  };

  // The points of one picture, with their places as shares of its box: these survive zoom and scrolling.
  const pictured = (svg, data) => {
    const points = [...svg.querySelectorAll('[id$="-data"] :is(use,path),[id$="-data-behind"] :is(use,path)')]
      .filter((element) => !element.closest("defs"));
    if (points.length !== data.row.length) return [];
    points.forEach((point, place) => {
      point.setAttribute("role", "img");
      point.setAttribute("aria-label", words(data, place));
      point.setAttribute("tabindex", place ? "-1" : "0");
      point.addEventListener("focus", () => show(point));
      point.addEventListener("blur", () => show(null));
    });
    svg.setAttribute("role", "group");
    hovering(svg, points);
    walking(svg, points);
    return points;
  };

  const centresOf = (svg, points) => {
    const frame = svg.getBoundingClientRect();
    return points.map((point) => {
      const box = point.getBoundingClientRect();
      return [
        (box.left + box.width / 2 - frame.left) / frame.width, (box.top + box.height / 2 - frame.top) / frame.height];
    });
  };

  const hovering = (svg, points) => {
    let centres = null;
    const nearest = (event, reach) => {
      centres ??= centresOf(svg, points);
      const frame = svg.getBoundingClientRect();
      let best = null;
      let least = reach;
      points.forEach((point, place) => {
        if (point.classList.contains("away")) return;
        const [x, y] = centres[place];
        const far = Math.hypot(frame.left + x * frame.width - event.clientX, frame.top + y * frame.height - event.clientY);
        if (far < least) [best, least] = [point, far];
      });
      return best;
    };
    svg.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse") show(nearest(event, 12));
    });
    svg.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") show(null);
    });
    svg.addEventListener("click", (event) => show(nearest(event, 24))); // by touch, a finger is wide
  };

  // One stop of the tab key for all points; arrows go to the neighbour to that side.
  const walking = (svg, points) => {
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 1], ArrowUp: [1, -1] }[event.key];
      const from = points.indexOf(event.target);
      if (!step || from < 0) return;
      event.preventDefault();
      const centres = centresOf(svg, points);
      const [axis, sign] = step;
      const shown = points.map((_, place) => place).filter((place) => !points[place].classList.contains("away"));
      shown.sort((a, b) => centres[a][axis] - centres[b][axis] || a - b);
      const goal = points[shown[shown.indexOf(from) + sign]];
      if (!goal) return;
      points[from].setAttribute("tabindex", "-1");
      goal.setAttribute("tabindex", "0");
      goal.focus();
    });
  };

  // One memory at a time -----------------------------------------------------------------------------------------

  const choosing = (data, pictures) => {
    let chosen = null;
    const chips = [];
    const rows = [...document.querySelectorAll("[data-memory]")].map((dot) => dot.closest("tr"));
    const memoryOf = (row) => Number(row.querySelector("[data-memory]").dataset.memory);
    const choose = (memory) => {
      chosen = memory === chosen ? null : memory;
      pictures.forEach((points) => {
        const away = (place) => chosen !== null && data.memory[place] !== chosen;
        points.forEach((point, place) => {
          point.classList.toggle("away", away(place));
          point.setAttribute("tabindex", "-1");
        });
        points.find((point) => !point.classList.contains("away"))?.setAttribute("tabindex", "0");
      });
      chips.forEach((chip) => chip.setAttribute("aria-pressed", String(Number(chip.dataset.choice) === chosen)));
      rows.forEach((row) => row.classList.toggle("chosen", memoryOf(row) === chosen));
    };
    const present = new Set(data.memory);
    const order = [...new Set([...rows.map(memoryOf), ...[...present].sort((a, b) => a - b)])];
    const bar = () => make("div", { class: "chips", role: "group", "aria-label": "Show the points of one memory" },
      "Points of memory", ...order.filter((memory) => present.has(memory)).map((memory) => {
        const dot = make("span", { class: "dot" });
        dot.style.background = data.colours[memory % data.colours.length];
        const attributes = { type: "button", "aria-pressed": "false", "data-choice": memory };
        const chip = make("button", attributes, dot, data.names[memory]);
        chip.addEventListener("click", () => choose(memory));
        chips.push(chip);
        return chip;
      }));
    pictures.forEach((points) => points[0].closest(".plot").after(bar()));
    rows.filter((row) => present.has(memoryOf(row))).forEach((row) => {
      row.classList.add("choice");
      row.addEventListener("click", () => getSelection().isCollapsed && choose(memoryOf(row)));
    });
    return () => chosen !== null && choose(chosen);
  };

  // ----------------------------------------------------------------------------------------------------------------

  document.querySelectorAll("table").forEach((table) => {
    if (table.tHead && table.tBodies[0]?.rows.length >= LEAST) sortable(table);
  });
  const block = document.getElementById("points");
  if (!block) return;
  const data = JSON.parse(block.textContent);
  document.body.append(ring, tip);
  const pictures = [...document.querySelectorAll("svg")].map((svg) => pictured(svg, data)).filter((all) => all.length);
  const clear = data.memory.length && pictures.length ? choosing(data, pictures) : () => {};
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    show(null);
    clear();
  });
  addEventListener("scroll", place, { capture: true, passive: true });
  addEventListener("resize", place);
})();
