"""How well spoken commands are understood: sentences spoken by a synthesiser, laid into noise, heard, scored."""
