"""Install media: the live image and, later, its builder."""
