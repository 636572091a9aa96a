"""What the pictures of this package are made of.

markup.py   elements of SVG and HTML, where everything is escaped
axes.py     round numbers along an axis
palette.py  colours for light and dark, and patterns for eyes that see no colour
sheet.py    what a picture is drawn on, and the document it becomes
saving.py   a picture's place, looked at before and filled in one step
"""
