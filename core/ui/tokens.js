/* The token view: one instance shows all bands of a unit. The rows themselves are in token_rows.js, which is put before this. Python is told
   of a switch, so that the address can follow. */

const instances = new WeakMap();

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  let view = instances.get(parentElement);
  if (!view) {
    view = new TokenView(parentElement.querySelector(".tv"));
    instances.set(parentElement, view);
  }
  view.tell = (name, value) => setStateValue(name, value);
  view.fire = (name, value) => setTriggerValue(name, value);
  view.receive(JSON.parse(decoder.decode(data)));
  tidyAddress();
  return () => instances.delete(parentElement);
}

/* Streamlit writes the slashes of a unit's name as %2F; in the address it stands as it is written everywhere else. */
function tidyAddress() {
  const tidy = location.search.replaceAll("%2F", "/");
  if (tidy !== location.search) history.replaceState(history.state, "", location.pathname + tidy + location.hash);
}
