"""Operations: how one thing becomes as wanted."""
