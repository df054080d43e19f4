"""Watermarks a photograph: image bytes in (JPEG, PNG, WebP ...), JPEG bytes out.

The text is the query parameter `text`; the default is the example's own name.
"""

import base64
import io

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

MAX_PIXELS = 50_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


def handler(event, context):
    body = event["body"]
    photograph = base64.b64decode(body) if event["isBase64Encoded"] else body.encode()
    try:
        image = Image.open(io.BytesIO(photograph)).convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        return {"statusCode": 415, "headers": {"content-type": "text/plain"}, "body": f"{error}\n"}
    text = event["queryStringParameters"].get("text", "Fuyun")[:80]
    print(f"{image.width} x {image.height} pixels, {len(photograph)} bytes, text {text!r}")
    marked = io.BytesIO()
    stamp(image, text).save(marked, "JPEG", quality=90)
    return {
        "statusCode": 200,
        "headers": {"content-type": "image/jpeg"},
        "body": marked.getvalue(),
    }


def stamp(image, text):
    """`image` with `text` across its lower right corner, half transparent, in letters an eighth of its height."""
    size = max(16, image.height // 8)
    font = ImageFont.load_default(size=size)
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    place = (image.width - size // 2, image.height - size // 3)
    draw.text(place, text, font=font, anchor="rs", fill=(255, 255, 255, 150),
              stroke_width=max(1, size // 24), stroke_fill=(0, 0, 0, 120))  # fmt: skip
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")
