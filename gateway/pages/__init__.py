"""HTML pages: the templates and what renders them."""
