"""The generated pages: commands, values of the inventory, roles' variables, requirements."""
