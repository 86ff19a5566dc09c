"""All systems on the same images, with the same budget, judged by the same rule: `sfumato compare`.

`entries` says who takes part, `runner` trains and scores what is missing, `report` makes tables and pictures of the
stored results.
"""
