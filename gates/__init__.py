"""What may happen and what may land: effects, policy, review and promotion."""
