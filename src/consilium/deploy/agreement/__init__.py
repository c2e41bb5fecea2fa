"""What a site agrees to before it joins: the terms of a study for it, and the sheet that its officer signs."""
