// A list of dictionaries. Everything a person may have written goes through textContent.
export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector('.list');
  root.replaceChildren();
  const table = element('table');
  const heads = element('tr');
  const compare = element('th', 'box', '\u2261');
  compare.title = 'Choose up to six to compare below';
  heads.append(compare);
  for (const column of data.columns) {
    const head = element('th', (column.number ? 'number' : '') + (column.key === data.sort ? ' on' : ''));
    const arrow = column.key === data.sort ? (data.descending ? ' \u2193' : ' \u2191') : '';
    const button = element('button', '', column.label + arrow);
    button.type = 'button';
    button.title = column.note;
    button.onclick = () => setTriggerValue('sort', column.key);
    if (column.key === data.sort) head.setAttribute('aria-sort', data.descending ? 'descending' : 'ascending');
    head.append(button);
    heads.append(head);
  }
  heads.append(element('th', 'plain'));
  const top = element('thead');
  top.append(heads);
  table.append(top);
  const body = element('tbody');
  for (const row of data.rows) {
    const line = element('tr', 'row' + (row.opened ? ' on' : ''));
    const choose = element('td', 'box');
    const box = element('input');
    box.type = 'checkbox';
    box.checked = row.chosen;
    box.title = 'Compare';
    box.setAttribute('aria-label', 'Compare ' + row.key);
    box.onchange = () => setTriggerValue('choose', row.key);
    choose.append(box);
    line.append(choose);
    row.cells.forEach((text, i) => {
      const column = data.columns[i];
      const node = element('td', column.number ? 'number' : column.key);
      node.dataset.label = column.label;
      if (row.notes[i]) node.title = row.notes[i];
      if (column.key === data.opens) {
        const link = element('a', '', text);
        link.href = row.address;
        link.onclick = (event) => {
          if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
          event.preventDefault();
          setTriggerValue('open', row.key);
        };
        node.append(link);
      } else {
        node.textContent = text;
      }
      line.append(node);
    });
    const actions = element('td', 'actions');
    for (const action of row.actions) {
      const word = element(action.address ? 'a' : 'button', 'act', action.label);
      word.title = action.note;
      if (action.address) word.href = action.address;
      else word.type = 'button';
      word.onclick = (event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
        event.preventDefault();
        setTriggerValue('act', action.key + ' ' + row.key);
      };
      actions.append(word);
    }
    line.append(actions);
    body.append(line);
  }
  table.append(body);
  root.append(table);
}
