"""Is called for each picture in the bucket `photos`; puts a small JPEG of it into `thumbnails` and says so on a bus."""

import io

from PIL import Image, ImageOps, UnidentifiedImageError

#: The most that a thumbnail measures, in pixels.
BOX = (320, 320)
Image.MAX_IMAGE_PIXELS = 50_000_000


def handler(event, context):
    bucket, key = event["data"]["bucket"], event["data"]["key"]
    try:
        image = Image.open(io.BytesIO(context.objects.get(bucket, key)))
        small = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        print(f"{key} is no picture, and another attempt would not change that: {error}")
        return
    small.thumbnail(BOX)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=85)
    name = key.rpartition(".")[0] + ".jpg" if "." in key.rpartition("/")[2] else f"{key}.jpg"
    made = context.objects.put("thumbnails", name, data.getvalue(), content_type="image/jpeg", metadata={"of": key})
    print(f"{key}: {image.width} x {image.height} became {small.width} x {small.height}, {made.size_bytes} bytes")
    told = {"of": key, "key": name, "width": small.width, "height": small.height, "bytes": made.size_bytes}
    context.buses.publish("pictures", "thumbnail.made", told, subject=name)
