// A list of units. Everything a person or a token may contain goes through textContent.
export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector('.list');
  root.replaceChildren();
  const make = (tag, cls, text) => {
    const node = document.createElement(tag);
    if (cls) node.className = cls;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const table = make('table');
  if (data.columns.length) {
    const line = make('tr');
    const heading = (column, cls) => {
      const head = make('th', cls + (column.key === data.sort ? ' on' : ''));
      const arrow = column.key === data.sort ? (data.descending ? ' \u2193' : ' \u2191') : '';
      if (column.sortable) {
        const button = make('button', '', column.label + arrow);
        button.type = 'button';
        button.title = column.note || ('Sort by ' + column.label);
        button.onclick = () => setTriggerValue('sort', column.key);
        head.append(button);
        if (column.key === data.sort) head.setAttribute('aria-sort', data.descending ? 'descending' : 'ascending');
      } else {
        head.textContent = column.label;
        head.title = column.note;
      }
      return head;
    };
    const sortable = data.columns.some((column) => column.sortable);
    line.append(heading({ key: 'unit', label: 'Unit', note: 'Sort by layer and number', sortable }, ''), make('th', 'plain', 'Peak'));
    line.append(...data.columns.map((column) => heading(column, 'number')), make('th', 'plain', data.text_label));
    const top = make('thead');
    top.append(line);
    table.append(top);
  }
  const body = make('tbody');
  for (const row of data.rows) {
    const line = make('tr', 'row' + (row.name === data.picked ? ' on' : ''));
    const unit = make('td', 'unit');
    const link = make('a', '', row.label);
    link.href = row.address;
    unit.append(link);
    const peak = make('td', 'peak');
    if (row.chip) {
      const chip = make('span', 'chip', row.chip);
      chip.title = row.chip;
      peak.append(chip);
    }
    const numbers = row.cells.map((cell, i) => {
      const node = make('td', 'number', cell);
      node.dataset.label = data.columns[i] ? data.columns[i].label : '';
      return node;
    });
    const text = make('td', 'text');
    const [before, mark, after] = row.snippet;
    text.append(before);
    if (mark) text.append(make('mark', '', mark));
    text.append(after);
    if (row.reason) text.append(make('span', 'reason', row.reason));
    line.append(unit, peak, ...numbers, text);
    line.onclick = (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
      if (document.getSelection() && String(document.getSelection())) return;
      event.preventDefault();
      setTriggerValue(data.pick && event.target !== link ? 'pick' : 'open', row.name);
    };
    body.append(line);
  }
  table.append(body);
  root.append(table);
}
