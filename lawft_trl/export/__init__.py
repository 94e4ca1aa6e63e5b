"""A finished run in the forms that other programs take, and the proof that it answers there as it did here."""
