"""The board's schema, step by step (Alembic). A step that was released is never edited: the next one mends it."""
