"""All systems on the same images, with the same budget, judged by the same rule: `sfumato compare`.

`contestants` says who takes part, `measuring` trains and scores what is missing, `telling` makes tables and pictures of
the stored results.
"""
