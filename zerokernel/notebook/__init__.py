"""The notebook's side: a CPU kernel whose `%%gpu` cells run elsewhere."""
