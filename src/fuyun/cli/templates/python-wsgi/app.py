"""An ordinary Flask application; nothing in it knows about Fuyun."""

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/")
def index():
    return jsonify(message=f"Hello, {request.args.get('name', 'world')}!")


@app.post("/echo")
def echo():
    return jsonify(received=request.get_json(silent=True))
