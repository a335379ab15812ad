// A list of units. Everything a person or a token may contain goes through textContent.
export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector('.list');
  root.replaceChildren();
  const table = element('table');
  if (data.columns.length) {
    const line = element('tr');
    const heading = (column, cls) => {
      const head = element('th', cls + (column.key === data.sort ? ' on' : ''));
      const arrow = column.key === data.sort ? (data.descending ? ' \u2193' : ' \u2191') : '';
      if (column.sortable) {
        const button = element('button', '', column.label + arrow);
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
    line.append(heading({ key: 'unit', label: 'Unit', note: 'Sort by layer and number', sortable }, ''), element('th', 'plain', 'Peak'));
    line.append(...data.columns.map((column) => heading(column, 'number')), element('th', 'plain', data.text_label));
    const top = element('thead');
    top.append(line);
    table.append(top);
  }
  const body = element('tbody');
  for (const row of data.rows) {
    const line = element('tr', 'row' + (row.name === data.picked ? ' on' : ''));
    const unit = element('td', 'unit');
    const link = element('a', '', row.label);
    link.href = row.address;
    unit.append(link);
    const peak = element('td', 'peak');
    if (row.chip) {
      const chip = element('span', 'chip', row.chip);
      chip.title = row.chip;
      peak.append(chip);
    }
    const numbers = row.cells.map((cell, i) => {
      const node = element('td', 'number', cell);
      node.dataset.label = data.columns[i] ? data.columns[i].label : '';
      return node;
    });
    const text = element('td', 'text');
    const [before, mark, after] = row.snippet;
    text.append(before);
    if (mark) text.append(element('mark', '', mark));
    text.append(after);
    if (row.reason) text.append(element('span', 'reason', row.reason));
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
