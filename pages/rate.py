"""Rate: judge by hand how well simulated activations match true ones, and see whether the scores agree with that."""

import streamlit as st

from core.errors import AtlasError
from core.findings.ratings import Ratings
from core.ui import rate_form
from core.ui.prose import lead, sentence
from core.ui.setup import only_to_write, setup

server = setup()
st.title("Rate")
only_to_write(server)
lead(
    "How well does what was simulated (teal) match what is true (amber)? Neither score nor author is shown.",
    "Scores are worth trusting where they agree with such ratings: the figure shows whether they do.",
)
try:
    given = Ratings(server.workspace).list(newest_only=True)
    subject, simulator, seed = rate_form.choose(server)
    queue = rate_form.waiting_list(server, subject, simulator, seed, given)
    if not queue and not given:
        rate_form.nothing_to_rate()
    else:
        rate_form.body(server, queue, given)
except AtlasError as error:
    sentence(str(error))
