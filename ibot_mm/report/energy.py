# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Energy of a training on GPUs, as far as makers state their power."""

# Watts of the whole board, as the makers' data sheets state them; part of the name -> power. The
# first that fits counts.
BOARD_POWER = {
    'H200': 700,
    'H100 PCIe': 350,
    'H100 80GB HBM3': 700,
    'A100-SXM4': 400,
    'A100-PCIE-40GB': 250,
    'A100 80GB PCIe': 300,
    'V100-SXM2': 300,
    'L40S': 350,
    'L4': 72,
    'T4': 70,
    'GeForce RTX 4090': 450,
    'GeForce RTX 3090': 350,
}


def board_power(device: str) -> int | None:
    """Return the power of a GPU in watts; None if it is not known.

    Args:
        device: As the driver calls it, such as 'NVIDIA A100-SXM4-80GB'.
    """
    words = device.removeprefix('NVIDIA ').removeprefix('Tesla ')
    exact = {name: watts for name, watts in BOARD_POWER.items() if words == name}
    longer = {n: watts for n, watts in BOARD_POWER.items() if len(n) > 3 and words.startswith(n)}
    return next(iter((exact or longer).values()), None)


def energy_estimate(device: str, gpu_hours: float) -> str | None:
    """Estimate the energy of a training from above, in words; None if the power is not known.

    Args:
        device: See :func:`board_power`.
        gpu_hours: Hours times GPUs.
    """
    watts = board_power(device)
    if watts is None:
        return None
    return (
        f'at most {gpu_hours * watts / 1000:.1f} kWh: GPU-hours at the {watts} W that the maker '
        'states for the board; without processors, cooling and losses'
    )
