"""The colours of all figures: hues that colour-blind readers can tell apart, one for each angle.

Reference: Okabe and Ito, "Color Universal Design", 2008.
"""

Colour = tuple[int, int, int]  # RGB, 0...255

BLACK, WHITE, GREY, YELLOW = (0, 0, 0), (255, 255, 255), (110, 110, 110), (240, 228, 66)
AXIS_COLOURS: dict[str, Colour] = {"yaw": (0, 158, 115), "pitch": (213, 94, 0), "roll": (0, 114, 178)}
