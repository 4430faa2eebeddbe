"""What main.py documents when it is given no other file."""


def area(width: float, height: float) -> float:
    return width * height


def fits(width: float, height: float, box: tuple[float, float]) -> bool:
    return width <= box[0] and height <= box[1]
