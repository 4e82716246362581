"""What the edge has seen and decided: who was admitted with which certificate, and what became of every try."""
