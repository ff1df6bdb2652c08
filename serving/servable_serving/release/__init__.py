"""Push, promote, rollback, inventory: releases of a model's versions."""
