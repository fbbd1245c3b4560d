"""How fast a model could run at all: the machine's arithmetic and memory, measured, and what the model asks of them."""
