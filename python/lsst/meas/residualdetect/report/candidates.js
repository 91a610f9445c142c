"use strict";
/* The list of candidates: sorted, filtered, looked at, marked. All of it is in the page, and nothing is
   fetched. Rows are made when they come into view, and pictures with them. */
(() => {
  const byId = (id) => document.getElementById(id);
  const { names, rows } = JSON.parse(byId("facts").textContent);
  if (!rows.length) return;
  const GLYPHS = { real: "✓", artefact: "✗", unsure: "?" };
  const MARK_KEYS = { 1: "real", 2: "artefact", 3: "unsure", r: "real", a: "artefact", u: "unsure", 0: "" };
  const ASCENDING = new Set(["distance_arcsec", "parent", "patch", "random", "mark", "class"]);
  const RANGES = ["score", "snr", "distance_arcsec"];
  const MARGIN_ROWS = 6;
  const [app, list, body, form] = ["app", "list", "rows", "filters"].map(byId);
  const shots = [...byId("shots").children];
  const heads = [...list.querySelectorAll("[data-sort]")];
  const markers = [...byId("viewer").querySelectorAll("[data-mark]")];

  /* An order that has to do with nothing, and is the same every time. */
  function scattered(text) {
    let hash = 0x811c9dc5;
    for (const letter of text) hash = Math.imul(hash ^ letter.codePointAt(0), 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 16), 0x45d9f3b);
    return (hash ^ (hash >>> 16)) >>> 0;
  }

  const all = rows.map((values, rank) => {
    const item = Object.fromEntries(names.map((name, index) => [name, values[index]]));
    item.rank = rank;
    item.key = `${item.patch} ${item.y} ${item.x}`;
    item.random = scattered(item.key);
    item.words = `${item.patch} parent ${item.parent} peak ${item.peak}`;
    return item;
  });
  const collator = new Intl.Collator("en", { numeric: true });
  const patches = [...new Set(all.map((item) => item.patch))].sort(collator.compare);
  const placeOf = new Map(patches.map((patch, place) => [patch, place]));
  const STORE = `residualdetect marks: ${document.title}`;
  let kept = true;
  let marks = new Map();
  try {
    const known = Object.entries(JSON.parse(localStorage.getItem(STORE) ?? "{}"));
    marks = new Map(known.filter(([, mark]) => mark in GLYPHS));
  } catch {
    kept = false;
  }
  const markOf = (item) => marks.get(item.key) ?? "";

  function tally() {
    const told = all.map(markOf).filter(Boolean);
    const counts = Object.keys(GLYPHS).map((mark) => `${told.filter((other) => other === mark).length} ${mark}`);
    const parts = [`${number(view.length)} of ${number(all.length)} candidates`, `${told.length} marked`];
    if (told.length) parts.push(counts.join(", "));
    if (!kept) parts.push("this browser does not keep marks: save them before you close the page");
    byId("tally").textContent = parts.join(" · ");
    byId("save").disabled = !told.length;
  }

  function mark(value) {
    if (!selected) return;
    const item = selected;
    value ? marks.set(item.key, value) : marks.delete(item.key);
    try {
      localStorage.setItem(STORE, JSON.stringify(Object.fromEntries(marks)));
    } catch {
      kept = false;
    }
    // The next one, before the list may lose the one that was marked.
    const place = view.indexOf(item);
    if (!passes(filters())(item)) return refresh(view[place + 1] ?? view[place - 1]);
    if (value) selected = view[place + 1] ?? item;
    show();
    tally();
  }

  function csv() {
    const quoted = (value) => {
      const text = String(value ?? "");
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = all.map((item) => [...names.map((name) => item[name]), markOf(item)]);
    return [[...names, "mark"], ...lines].map((line) => line.map(quoted).join(",") + "\n").join("");
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "marks.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  let view = []; // What passes the filters, in order.
  let selected = null;
  let descending = true;
  const filters = () => Object.fromEntries(new FormData(form));

  function passes(wanted) {
    // What begins or ends with a number means all of that number.
    const text = wanted.text.trim().replace(/[^\w\s]/g, "\\$&");
    const words = new RegExp(`(?<!\\d)${text}${/\d$/.test(text) ? "(?!\\d)" : ""}`, "i");
    const limits = RANGES.flatMap((name) => {
      const [low, high] = ["min", "max"].map((end) => wanted[`${name}_${end}`]);
      return low || high ? [[name, low ? +low : -Infinity, high ? +high : Infinity]] : [];
    });
    return (item) =>
      (wanted.reason === "*" || item.reason === wanted.reason) &&
      (wanted.mark === "*" || markOf(item) === wanted.mark) &&
      (wanted.class === undefined || wanted.class === "*" || item.class === wanted.class) &&
      limits.every(([name, low, high]) => item[name] !== null && item[name] >= low && item[name] <= high) &&
      words.test(item.words);
  }

  function sortKey(name) {
    if (name === "mark") return (item) => Object.keys(GLYPHS).indexOf(markOf(item)) >>> 0;
    if (name === "patch") return (item) => placeOf.get(item.patch);
    if (name === "parent") return (item) => placeOf.get(item.patch) * 2 ** 26 + item.parent;
    return (item) => item[name];
  }

  function inOrder(items, name) {
    const key = sortKey(name);
    const sign = descending ? -1 : 1;
    return items.sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === b) return one.rank - other.rank;
      if (a === null || b === null) return a === null ? 1 : -1;
      return a < b ? -sign : sign;
    });
  }

  function refresh(select = selected) {
    const wanted = filters();
    view = inOrder(all.filter(passes(wanted)), wanted.sort);
    for (const head of heads) {
      const here = head.dataset.sort === wanted.sort;
      head.parentElement.setAttribute("aria-sort", here ? (descending ? "descending" : "ascending") : "none");
    }
    byId("direction").textContent = descending ? "↓" : "↑";
    byId("none").hidden = view.length > 0;
    list.setAttribute("aria-rowcount", view.length + 1);
    selected = view.includes(select) ? select : (view[0] ?? null);
    draw(); // The list has its new length before it is scrolled.
    show();
    tally();
  }

  function sortBy(name, turn) {
    descending = turn ? !descending : !ASCENDING.has(name);
    form.elements.sort.value = name;
    refresh();
  }

  // While the page is being read they may not be there yet.
  const picturesOf = (item) => JSON.parse(byId(`pictures-${item.rank}`)?.textContent ?? "null");
  const uri = (pictures) => (pictures ? `data:image/jpeg;base64,${pictures.jpeg}` : "data:,");
  const about = (item) => `candidate at x ${item.x}, y ${item.y} of ${item.patch}`;
  const number = (value) => value.toLocaleString("en");
  const fixed = (value, digits) => (value === null ? "–" : value.toFixed(digits));
  const scoreText = (value) => fixed(value, value !== null && value >= 10 ? 1 : 3);

  function element(tag, className, text = "") {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = text;
    return made;
  }

  function makeRow(item, place) {
    const row = element("div", "row");
    row.id = `row-${item.rank}`;
    row.setAttribute("role", "row");
    row.setAttribute("aria-rowindex", place + 2);
    row.style.transform = `translateY(${place * rowHeight}px)`;
    const image = element("img", "");
    image.decoding = "async";
    image.alt = `Data, model, residual and residual after, of the ${about(item)}`;
    image.src = uri(picturesOf(item));
    const [mark, strip, ...others] = [
      ["mark", ""], ["strip", ""], ["score", scoreText(item.score)], ["snr", fixed(item.snr, 1)],
      ["distance_arcsec", fixed(item.distance_arcsec, 2)], ["parent", item.parent || "–"], ["name", item.peak || "–"],
    ].map(([name, text]) => element("span", name, text));
    strip.append(image);
    others.at(-1).append(element("small", "", item.reason || item.patch));
    if (item.class) others.at(-1).prepend(element("i", `dot ${item.class}`));
    row.append(mark, strip, ...others);
    for (const cell of row.children) cell.setAttribute("role", "gridcell");
    row.addEventListener("click", () => select(item));
    return row;
  }

  let rowHeight = 0;
  const drawn = new Map();
  /* Makes the rows that are seen and some beyond, and lets go of the others. */
  function draw() {
    const height = parseFloat(getComputedStyle(list).getPropertyValue("--row"));
    if (height !== rowHeight) drawn.clear();
    rowHeight = height;
    body.style.height = `${view.length * rowHeight}px`;
    const first = Math.max(0, Math.floor(list.scrollTop / rowHeight) - MARGIN_ROWS);
    const last = Math.min(view.length, Math.ceil((list.scrollTop + list.clientHeight) / rowHeight) + MARGIN_ROWS);
    const seen = view.slice(first, last);
    for (const [item, { place }] of drawn) if (seen[place - first] !== item) drawn.delete(item);
    seen.forEach((item, index) => {
      if (!drawn.has(item)) drawn.set(item, { place: first + index, row: makeRow(item, first + index) });
      const { row } = drawn.get(item);
      row.setAttribute("aria-selected", item === selected);
      row.dataset.mark = markOf(item);
      row.firstChild.textContent = GLYPHS[markOf(item)] ?? "";
      row.firstChild.setAttribute("aria-label", markOf(item) || "not marked");
    });
    const made = seen.map((item) => drawn.get(item).row);
    if (made.length !== body.children.length || made.some((row, index) => row !== body.children[index])) {
      body.replaceChildren(...made);
    }
    list.setAttribute("aria-activedescendant", selected ? `row-${selected.rank}` : "");
  }

  const escaped = (text) => text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
  function sign([kind, x, y, text]) {
    const scale = ["truth", "target", "subject"].includes(kind) ? "" : " scale(0.75)";
    const title = text ? `<title>${escaped(text)}</title>` : "";
    const use = `<use href="#${kind.replace(" ", "-")}" transform="translate(${x} ${y})${scale}"/>`;
    return `<g class="sign-of ${kind}">${title}${use}</g>`;
  }

  function showPictures(item) {
    const pictures = item && picturesOf(item);
    shots.forEach((shot, place) => {
      const [image, svg] = shot.firstElementChild.children;
      image.hidden = !pictures;
      svg.innerHTML = "";
      if (!pictures) return;
      const { known, found, subject } = pictures;
      image.style.left = `${-100 * place}%`;
      image.src = uri(pictures);
      image.alt = `${image.dataset.title}: ${about(item)}`;
      svg.innerHTML = [...(place === 1 ? known : found), ["subject", ...subject, ""]].map(sign).join("");
    });
  }

  function factsOf(item) {
    const facts = [
      ["Score", scoreText(item.score)],
      ["S/N in residual", fixed(item.snr, 1)],
      ["To nearest known", `${fixed(item.distance_arcsec, 2)}″`],
      ["Parent, peak", `${item.parent || "none"}, ${item.peak || "none"}`],
      ["Where", `${item.patch}, x ${item.x.toFixed(1)}, y ${item.y.toFixed(1)}`],
    ];
    if (item.ra !== null) facts.push(["RA, Dec", `${item.ra.toFixed(6)}°, ${item.dec.toFixed(6)}°`]);
    if (item.reason) facts.push(["No peak", item.reason]);
    if (item.class) facts.push(["Truth", item.class.replaceAll("_", " ")]);
    return facts;
  }

  /* The selected candidate: in the viewer, in the list, and said to who listens. */
  function show() {
    const place = view.indexOf(selected);
    if (selected) {
      const top = place * rowHeight;
      const room = list.clientHeight - list.firstElementChild.offsetHeight;
      if (top < list.scrollTop) list.scrollTop = top;
      else if (top + rowHeight > list.scrollTop + room) list.scrollTop = top + rowHeight - room;
    }
    draw();
    byId("place").textContent = selected ? `Candidate ${number(place + 1)} of ${number(view.length)}` : "No candidate";
    showPictures(selected);
    byId("about").replaceChildren(
      ...(selected ? factsOf(selected) : []).map(([term, words]) => {
        const pair = element("div", "");
        pair.append(element("dt", "", term), element("dd", "", words));
        return pair;
      }),
    );
    for (const button of markers) {
      button.disabled = !selected;
      button.setAttribute("aria-pressed", Boolean(selected) && markOf(selected) === button.dataset.mark);
    }
    byId("previous").disabled = place <= 0;
    byId("next").disabled = place < 0 || place >= view.length - 1;
    const said = (item) => `${place + 1} of ${view.length}, score ${scoreText(item.score)}, ${markOf(item) || "not marked"}`;
    byId("said").textContent = selected ? said(selected) : "";
  }

  const select = (item) => { selected = item ?? null; show(); };
  const step = (count) => select(view[Math.min(view.length - 1, Math.max(0, view.indexOf(selected) + count))]);

  const page = () => Math.max(1, Math.floor(list.clientHeight / rowHeight) - 2);
  const LIST_KEYS = {
    ArrowDown: () => step(1), ArrowUp: () => step(-1), PageDown: () => step(page()), PageUp: () => step(-page()),
    Home: () => step(-view.length), End: () => step(view.length),
  };
  const KEYS = {
    j: () => step(1), k: () => step(-1), o: () => app.classList.toggle("bare"),
    "/": () => form.elements.text.focus(), Escape: () => list.focus(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select") && event.key !== "Escape") return;
    const inList = document.activeElement === list && LIST_KEYS[event.key];
    const action = inList || KEYS[event.key] || (event.key in MARK_KEYS && (() => mark(MARK_KEYS[event.key])));
    if (!action) return;
    event.preventDefault();
    action();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  const sort = form.elements.sort;
  form.addEventListener("input", (event) => (event.target === sort ? sortBy(sort.value) : refresh()));
  form.addEventListener("reset", () => setTimeout(() => sortBy(sort.value)));
  byId("direction").addEventListener("click", () => sortBy(sort.value, true));
  for (const head of heads) {
    head.addEventListener("click", () => sortBy(head.dataset.sort, sort.value === head.dataset.sort));
  }
  for (const button of markers) {
    button.addEventListener("click", () => mark(markOf(selected) === button.dataset.mark ? "" : button.dataset.mark));
  }
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("save").addEventListener("click", save);
  let asked = 0;
  list.addEventListener("scroll", () => { asked ||= requestAnimationFrame(() => { asked = 0; draw(); }); });
  new ResizeObserver(draw).observe(list);
  // Pictures that had not been read when their rows were made.
  document.addEventListener("DOMContentLoaded", () => { drawn.clear(); show(); });

  app.hidden = false;
  refresh(all[0]);
  list.focus({ preventScroll: true });
})();
