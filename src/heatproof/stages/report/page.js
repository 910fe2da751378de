const made = (name, attributes, ...children) => {
  const node = Object.assign(document.createElement(name), attributes);
  node.append(...children);
  return node;
};
let filters = 0;
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], rows = [...body.rows];
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  table.querySelectorAll("thead th").forEach((head, place) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      const key = row => row.cells[place].dataset.sort;
      body.append(...[...body.rows].sort((a, b) => {
        const empty = (key(a) === "") - (key(b) === "");  // undefined values stay last either way
        return empty || (up ? compare(key(a), key(b)) : compare(key(b), key(a)));
      }));
      table.querySelectorAll("thead th").forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
    });
  });
  if (rows.length < 6) continue;
  const field = made("input", { type: "search", id: `filter${++filters}`, autocomplete: "off" });
  const count = made("span", { className: "dim", role: "status" });
  field.setAttribute("aria-label", `Filter rows: ${table.closest(".scroll")?.ariaLabel ?? ""}`);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
  });
  const label = made("label", { htmlFor: field.id, textContent: "Filter rows" });
  (table.closest(".scroll") ?? table).before(made("div", { className: "filter" }, label, field, count));
}
const scrollable = () => {
  // Only what scrolls is a stop for the Tab key.
  for (const box of document.querySelectorAll(".scroll")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; else box.removeAttribute("tabindex");
  }
};
scrollable();
addEventListener("resize", scrollable);
document.addEventListener("toggle", scrollable, true);
let opened = [];
addEventListener("beforeprint", () => {
  // A table of hundreds of rows is for the csv file beside the page, not for paper.
  opened = [...document.querySelectorAll("details:not([open])")].filter(one => one.querySelectorAll("tr").length < 60);
  for (const one of opened) one.open = true;
});
addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
const held = document.getElementById("maps");
if (held) {
  const { maps, status } = JSON.parse(held.textContent);
  const tiles = [...document.querySelectorAll(".tiles li")];
  const at = id => document.getElementById(id);
  const show = () => {
    const method = at("method").value, strength = at("strength").value;
    let seen = 0;
    tiles.forEach((tile, place) => {
      const map = tile.querySelector(".map");
      map.src = `data:image/webp;base64,${maps[method][place]}`;
      map.alt = `map of ${method}`;
      map.style.opacity = strength;
      const line = tile.querySelector(".line");
      if (line) line.hidden = !at("outline").checked;
      const state = status[method][place];
      tile.querySelector(".state").textContent = state === "ok" ? "" : `map: ${state}`;
      tile.hidden = at("which").value && tile.dataset.outcome !== at("which").value;
      seen += !tile.hidden;
    });
    at("seen").textContent = `${method}: ${seen} of ${tiles.length} images shown`;
  };
  for (const id of ["method", "which", "outline", "strength"]) at(id)?.addEventListener("input", show);
  at("viewer-controls").hidden = false;
  show();
}
