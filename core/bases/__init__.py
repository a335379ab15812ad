"""Bases: how a site's vector is read as units. Neurons are the axes; a dictionary has directions of its own."""
