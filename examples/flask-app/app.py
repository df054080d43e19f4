"""A guest book. It lives in the instance's memory: it is gone when the function scales to zero."""

from flask import Flask, abort, jsonify, render_template_string, request

app = Flask(__name__)
entries: list[str] = []

PAGE = """<!doctype html><title>Guest book</title>
<h1>Guest book</h1>
<form method="post"><input name="entry" maxlength="200"><button>Sign</button></form>
<ul>{% for entry in entries %}<li>{{ entry }}</li>{% endfor %}</ul>
"""


@app.get("/")
def show():
    return render_template_string(PAGE, entries=entries)


@app.post("/")
def sign():
    entry = request.form.get("entry", "").strip()
    if not entry:
        abort(400, "sign with something")
    entries.append(entry[:200])
    del entries[:-100]
    return show(), 201


@app.get("/entries")
def as_json():
    return jsonify(entries)
