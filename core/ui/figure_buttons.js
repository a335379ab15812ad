/* Saves figures as PNG, SVG and CSV. Plotly's own corner knows one format, and its configuration cannot carry a function from Python: so each
   corner gets three buttons here, two of which press Plotly's own with the format set, and one of which writes the numbers that are drawn. */

const NAMES = { png: "Save this figure as PNG", svg: "Save this figure as SVG" };
/* Columns of the CSV, and where a trace has them. */
const COLUMNS = {
  x: (trace) => trace.x,
  y: (trace) => trace.y,
  width: (trace) => trace.width,
  "low end": (trace) => trace.lowerfence,
  "first quartile": (trace) => trace.q1,
  median: (trace) => trace.median,
  "third quartile": (trace) => trace.q3,
  "high end": (trace) => trace.upperfence,
  "error up": (trace) => trace.error_y?.array,
  "error down": (trace) => trace.error_y?.arrayminus,
  said: (trace) => trace.hovertext ?? trace.text,
};

export default function () {
  let asked = 0;
  const look = () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      for (const corner of document.querySelectorAll(".js-plotly-plot .modebar:not(:has(.na-save))")) addButtons(corner);
    });
  };
  const watch = new MutationObserver(look);
  watch.observe(document.body, { childList: true, subtree: true });
  look();
  return () => watch.disconnect();
}

function addButtons(corner) {
  const figure = corner.closest(".js-plotly-plot");
  const own = corner.querySelector(".modebar-btn");
  if (!own || !figure._context) return;
  const group = element("div", "modebar-group na-save");
  for (const format of Object.keys(NAMES)) {
    const button = element("button", "", format);
    button.type = "button";
    button.title = NAMES[format];
    button.onclick = () => saveImage(figure, own, format);
    group.append(button);
  }
  group.append(saveButton("Save the numbers of this figure as CSV", `${fileName(figure)}.csv`, () => numbers(figure)));
  corner.append(group);
}

function fileName(figure) {
  return figure._context.toImageButtonOptions.filename ?? "figure";
}

/* Plotly copies format and layout when its button is pressed. The page's background goes along: the text is made to be read on it. */
function saveImage(figure, own, format) {
  const options = figure._context.toImageButtonOptions;
  const before = { format: options.format, paper: figure.layout.paper_bgcolor };
  options.format = format;
  figure.layout.paper_bgcolor = getComputedStyle(document.documentElement).getPropertyValue("--na-background").trim() || before.paper;
  try {
    own.click();
  } finally {
    options.format = before.format;
    figure.layout.paper_bgcolor = before.paper;
  }
}

/* What is drawn, a line a point. */
function numbers(figure) {
  const found = figure._fullData.filter((trace) => trace.visible === true).map((trace) => points(trace));
  const used = Object.keys(COLUMNS).filter((name) => found.some(({ columns }) => columns[name]));
  const grid = found.some(({ cells }) => cells);
  const lines = [["series", ...used, ...(grid ? ["value"] : [])]];
  for (const { name, columns, cells, n } of found)
    for (let at = 0; at < n; at++) {
      const line = [name, ...used.map((column) => plain(columns[column]?.[at]))];
      lines.push(grid ? [...line, plain(cells?.[at])] : line);
    }
  return lines;
}

/* A trace's columns, all of one length. A grid of values becomes one line a cell. */
function points(trace) {
  const columns = {};
  for (const [name, of] of Object.entries(COLUMNS)) if (isList(of(trace))) columns[name] = of(trace);
  const name = trace.name?.startsWith("trace ") ? "" : (trace.name ?? "");
  if (isList(trace.z) && isList(trace.z[0])) {
    const cells = Array.from(trace.z, (row) => Array.from(row));
    const x = cells.flatMap((row) => row.map((_, at) => columns.x?.[at] ?? at));
    const y = cells.flatMap((row, at) => row.map(() => columns.y?.[at] ?? at));
    const said = isList(columns.said?.[0]) ? Array.from(columns.said).flatMap((row) => Array.from(row)) : undefined;
    return { name, columns: said ? { x, y, said } : { x, y }, cells: cells.flat(), n: x.length };
  }
  return { name, columns, cells: null, n: Math.max(0, ...Object.values(columns).map((list) => list.length)) };
}

function isList(value) {
  return Array.isArray(value) || ArrayBuffer.isView(value);
}

/* A cell without markup; nothing where there is no number. */
function plain(value) {
  if (typeof value === "number") return Number.isFinite(value) ? value : "";
  if (typeof value !== "string") return value ?? "";
  if (!/[<&]/.test(value)) return value;
  return new DOMParser().parseFromString(value.replaceAll("<br>", " · "), "text/html").body.textContent;
}
