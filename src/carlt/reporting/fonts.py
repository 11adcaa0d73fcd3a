"""Fonts for class names of any language."""

import functools

OTHERS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Serif CJK JP", "Noto Serif CJK SC", "Noto Sans",
          "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "IPAGothic", "IPAexGothic", "TakaoGothic",
          "Droid Sans Fallback", "Source Han Sans", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo",
          "Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Arial Unicode MS", "Unifont")  # fmt: skip
"""Families with letters that matplotlib's own font lacks, on Linux, macOS and Windows."""


@functools.cache
def families() -> list[str]:
    """matplotlib's font, and the installed ones of ``OTHERS``, which it asks for letters that the first lacks."""
    from matplotlib.font_manager import fontManager

    known = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in OTHERS if name in known)]
