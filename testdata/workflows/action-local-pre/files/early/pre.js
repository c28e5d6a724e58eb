console.log('before all')
