"""Small trees of files laid out as the real datasets are, for tests of their readers."""

import io

from PIL import Image


def picture(shade=0, size=(12, 10), kind="JPEG"):
    """The bytes of one small picture."""
    out = io.BytesIO()
    Image.new("RGB", size, (shade % 256, 255 - shade % 256, shade * 7 % 256)).save(out, kind)
    return out.getvalue()


def write(root, content):
    """Write files given by name."""
    for name, data in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def image_folder(root, classes=("ann", "bob", "cy"), each=4):
    return write(
        root,
        {
            f"{name}/{i}.jpg": picture(40 * c + i)
            for c, name in enumerate(classes)
            for i in range(each)
        },
    )


def facescrub(root):
    same = picture()
    names = {"actor_faces": "Actor", "actress_faces": "Actress"}
    return write(
        root,
        {
            f"{group}/{word} {p:03}/{word} {p:03}_{i}.jpeg": same
            for group, word in names.items()
            for p in range(265)
            for i in range(2)
        },
    )


def celeba(root, *, folder="img_align_celeba"):
    """1,003 people: 7 with three images, the rest with two, the last three with one."""
    people = [2000 + i for i in range(1000)] + [11, 12, 13]
    owners = [p for shot in range(3) for i, p in enumerate(people)
              if shot == 0 or (shot == 1 and i < 1000) or i in range(500, 507)]  # fmt: skip
    lines = [f"{n:06}.jpg {p}" for n, p in enumerate(owners, 1)]
    same = picture()
    files = {f"{folder}/{line.split()[0]}": same for line in lines}
    return write(root, {**files, "identity_CelebA.txt": "\n".join(lines) + "\n"})


def annotation(*boxes):
    parts = "".join(
        "<object><name>dog</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
        "<ymax>{}</ymax></bndbox></object>".format(*box)
        for box in boxes
    )
    return f"<annotation><folder>1</folder>{parts}</annotation>"


def stanford_dogs(root):
    same = picture()
    files = {}
    for breed in range(120):
        name = f"n{2085620 + breed:08}"
        for i in (7, 10):
            files[f"Images/{name}-breed_{breed}/{name}_{i}.jpg"] = same
            files[f"Annotation/{name}-breed_{breed}/{name}_{i}"] = annotation(
                (1, 2, 9, 8), (0, 0, 3, 3)
            )
    return write(root, files)


TREES = {
    "image_folder": image_folder,
    "facescrub": facescrub,
    "celeba": celeba,
    "stanford_dogs": stanford_dogs,
}
