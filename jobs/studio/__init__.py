"""The studio: short clips whose truth is known, rendered from the embedded body model.

``scripts`` says what happens, ``casting`` draws takes for the objects of a ``catalogue``; ``meshes``, ``baking`` and
``solids`` make products of them, ``products`` makes the built-in ones. ``acting`` poses the body (``grips`` say where,
``arms`` reach, ``hands`` close), ``looks`` colours it, ``drawing`` renders pictures and masks, ``voice`` speaks.
``generate`` writes clips with their truth, ``frames`` gives single pictures.
"""
