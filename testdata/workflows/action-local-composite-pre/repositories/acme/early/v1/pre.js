console.log('before ' + 'all')
