import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="All formulas")

with app.setup:
    import marimo as mo

    from sfumato.learn import story
    from sfumato.learn.reference import formulas


@app.cell
def _():
    story.reference("formulas")
    return


@app.cell
def _():
    mo.md(formulas.page())
    return


if __name__ == "__main__":
    app.run()
