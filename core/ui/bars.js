/* Small tables of names and numbers with a bar each, and plain facts. Built with textContent only. Every table can be saved as CSV. */

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".bt");
  const { tables } = JSON.parse(decoder.decode(data));
  root.replaceChildren(...tables.map((table) => drawTable(table, (address) => setTriggerValue("open", address))));
}

function drawTable(table, open) {
  const section = element("section");
  const header = element("header");
  header.append(element("h2", "", table.title), drawNote(table));
  if (table.csv.length) header.append(saveButton(`Save ${table.title.toLowerCase()} as CSV`, table.file, () => table.csv));
  section.append(header);
  if (table.empty) section.append(element("p", "none", table.empty));
  const columns = element("div", "columns");
  for (const lines of table.columns) {
    const column = element("div", "column");
    for (const line of lines) column.append(drawLine(line, open));
    columns.append(column);
  }
  if (table.columns.length) section.append(columns);
  if (table.facts.length) {
    const facts = element("div", "facts");
    for (const [name, value] of table.facts) {
      const fact = element("div");
      fact.append(element("span", "", name), element("b", "", value));
      facts.append(fact);
    }
    section.append(facts);
  }
  return section;
}

function drawNote(table) {
  const note = element("span", "note", table.note);
  if (table.help) {
    note.classList.add("help");
    note.tabIndex = 0;
    const tip = element("span", "tip", table.help);
    tip.setAttribute("role", "tooltip");
    note.append(tip);
  }
  return note;
}

function drawLine(line, open) {
  const made = element("div", "line");
  const name = element("span", "name");
  if (line.address) {
    const link = element("a", "", line.name);
    link.href = line.address;
    link.target = "_self";
    link.onclick = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      open(line.unit);
    };
    name.append(link);
  } else name.textContent = line.name;
  const track = element("div", "track");
  const fill = element("div", `fill ${line.hue}`);
  fill.style.width = `${(100 * line.share).toFixed(1)}%`;
  if (line.colour) fill.style.background = line.colour;
  track.append(fill);
  const value = element("span", "value", line.value);
  if (line.count) value.append(element("small", "", line.count));
  if (line.compare) {
    const beside = element("a", "beside", "compare");
    beside.href = line.compare;
    beside.target = "_self";
    value.append(beside);
  }
  if (line.hover) made.title = line.hover;
  made.append(name, track, value);
  return made;
}
