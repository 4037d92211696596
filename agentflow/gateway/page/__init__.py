"""The page as it is given: HTML, modules and styles."""
