"""The studio: short clips whose truth is known, rendered from the embedded body model.

``scripts`` says what happens, ``acting`` poses the body, ``looks`` and ``products`` colour it, ``drawing``
renders pictures and masks, ``voice`` speaks, ``generate`` writes clips with their truth.
"""
