"""What to show: values in, tables and text out.

It asks nobody and prints nothing: `cli` fetches the values and writes the result. A table is one
value (`table.Table`) with two faces: plain text for a pipe, rich for a terminal.
"""
