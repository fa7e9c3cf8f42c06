"""In place of the module beside O3one's examples, which finds its package."""
