"""A trained model behind a local web page and a JSON interface: sampling, guidance and inpainting without commands.

`jobs` is the queue, one sampling at a time; `wishes` are the requests as JSON has them; `work` is what the model does
for them; `app` puts both behind the token and the checks of `learn.guard`.
"""
