"""Time travel: snapshots of a workspace, plans to go back, and the restore that carries them out."""
