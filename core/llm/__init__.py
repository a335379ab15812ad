"""Language models behind an address: what to ask them, at what price, and how to ask nothing twice. No torch."""
